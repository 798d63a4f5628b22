#include "core/host_copy.h"

#include <cstring>

#include "core/device_backend.h"

namespace fathom {

void copy_to_host(const Tensor& from, std::span<std::byte> to, Stream& stream) {
  FATHOM_CHECK(from.size_bytes() == std::ssize(to), from.size_bytes(), " bytes to ", to.size());
  if (stream.is_meta() || to.empty()) {
    return;
  }
  FATHOM_CHECK(from.device() == stream.device(), from.device(), " on ", stream.device());
  if (DeviceQueue* queue = stream.queue()) {
    queue->copy_to_host(from.raw(), to.data(), from.size_bytes());
  } else {
    std::memcpy(to.data(), from.raw(), to.size());
  }
}

void copy_from_host(std::span<const std::byte> from, Tensor& to, Stream& stream) {
  FATHOM_CHECK(to.size_bytes() == std::ssize(from), from.size(), " bytes to ", to.size_bytes());
  if (stream.is_meta() || from.empty()) {
    return;
  }
  FATHOM_CHECK(to.device() == stream.device(), to.device(), " on ", stream.device());
  if (DeviceQueue* queue = stream.queue()) {
    queue->copy_from_host(from.data(), to.raw(), to.size_bytes());
  } else {
    std::memcpy(to.raw(), from.data(), from.size());
  }
}

}  // namespace fathom
