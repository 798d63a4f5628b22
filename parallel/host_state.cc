#include "parallel/host_state.h"

#include <span>

#include "core/host_copy.h"

namespace fathom::parallel {
namespace {

std::span<std::byte> bytes_of(const Tensor& tensor) {
  return {tensor.raw(), static_cast<std::size_t>(tensor.size_bytes())};
}

}  // namespace

Tensor HostState::room_for(const Tensor& local) {
  if (local.device().type == DeviceType::kCpu) {
    return {};
  }
  if (!host_) {
    host_.emplace();
  }
  return Tensor::empty(local.shape(), local.dtype(), *host_);
}

void HostState::copy_out(const Tensor& local, Tensor& copy) {
  copy_to_host(local, bytes_of(copy), *stream_);
}

void HostState::copy_back(const Tensor& copy, Tensor& local) {
  copy_from_host(bytes_of(copy), local, *stream_);
}

}  // namespace fathom::parallel
