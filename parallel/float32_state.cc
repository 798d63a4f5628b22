#include "parallel/float32_state.h"

#include "kernels/elementwise.h"

namespace fathom::parallel {

Tensor Float32State::room_for(const Tensor& local) {
  return local.dtype() == DType::kFloat32 ? Tensor()
                                          : Tensor::empty(local.shape(), DType::kFloat32, *stream_);
}

void Float32State::copy_out(const Tensor& local, Tensor& copy) {
  kernels::convert(local, copy, *stream_);
}

void Float32State::copy_back(const Tensor& copy, Tensor& local) {
  kernels::convert(copy, local, *stream_);
}

}  // namespace fathom::parallel
