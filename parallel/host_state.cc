#include "parallel/host_state.h"

#include "core/host_copy.h"

namespace fathom::parallel {

void HostState::tensor(const StateSlice& slice, Tensor& local) {
  if (local.device().type == DeviceType::kCpu) {
    visitor_->tensor(slice, local);
    return;
  }
  if (!host_) {
    host_.emplace();
  }
  Tensor here = Tensor::empty(local.shape(), local.dtype(), *host_);
  const std::span bytes(here.raw(), static_cast<std::size_t>(here.size_bytes()));
  if (access() != Access::kLook) {  // one that writes may leave this tensor as it is
    copy_to_host(local, bytes, *stream_);
  }
  visitor_->tensor(slice, here);
  if (access() == Access::kWrite) {
    copy_from_host(bytes, local, *stream_);
  }
}

}  // namespace fathom::parallel
