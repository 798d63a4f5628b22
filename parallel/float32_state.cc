#include "parallel/float32_state.h"

#include "kernels/elementwise.h"

namespace fathom::parallel {

void Float32State::tensor(const StateSlice& slice, Tensor& local) {
  if (local.dtype() == DType::kFloat32) {
    visitor_->tensor(slice, local);
    return;
  }
  Tensor wide = Tensor::empty(local.shape(), DType::kFloat32, *stream_);
  if (access() != Access::kLook) {  // one that writes may leave this tensor as it is
    kernels::convert(local, wide, *stream_);
  }
  visitor_->tensor(slice, wide);
  if (access() == Access::kWrite) {
    kernels::convert(wide, local, *stream_);
  }
}

}  // namespace fathom::parallel
