#include "core/device_backend.h"

#include <array>

#include "core/error.h"

namespace fathom {
namespace {

// Constant-initialized, so that registrations from other files may run before or after it.
constinit std::array<const DeviceBackend*, 3> backends{};

}  // namespace

bool has_device_backend(DeviceType type) noexcept {
  return backends[static_cast<std::size_t>(type)] != nullptr;
}

const DeviceBackend& device_backend(DeviceType type) {
  if (!has_device_backend(type)) {
    throw DeviceError(concat("a ", to_string(type),
                             " device was asked for, which this build does not have: configure it "
                             "with -DFATHOM_CUDA=ON"));
  }
  return *backends[static_cast<std::size_t>(type)];
}

DeviceBackendRegistration::DeviceBackendRegistration(DeviceType type,
                                                     const DeviceBackend& backend) {
  backends[static_cast<std::size_t>(type)] = &backend;
}

}  // namespace fathom
