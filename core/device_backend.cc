#include "core/device_backend.h"

#include <array>

#include "core/error.h"

namespace fathom {
namespace {

// Constant-initialized, so that registrations from other files may run before or after it.
constinit std::array<const DeviceBackend*, 3> backends{};

}  // namespace

const DeviceBackend& device_backend(DeviceType type) {
  const DeviceBackend* backend = backends[static_cast<std::size_t>(type)];
  if (backend == nullptr) {
    throw DeviceError(concat("a ", to_string(type),
                             " device was asked for, which this build does not have: configure it "
                             "with -DFATHOM_CUDA=ON"));
  }
  return *backend;
}

DeviceBackendRegistration::DeviceBackendRegistration(DeviceType type,
                                                     const DeviceBackend& backend) {
  backends[static_cast<std::size_t>(type)] = &backend;
}

}  // namespace fathom
