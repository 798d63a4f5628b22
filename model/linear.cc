#include "model/linear.h"

#include "kernels/packed_matmul.h"

namespace fathom::model {

Tensor Linear::forward(const Tensor& x, DType y_dtype, Stream& stream) const {
  Tensor y = Tensor::empty(Shape{x.size(0), out_size()}, y_dtype, stream);
  if (weight_.packed.defined() && x.size(0) <= kernels::kMaxPackedRows) {
    kernels::packed_matmul_forward(x, weight_.packed, y, chunks_.in, stream);
  } else {
    kernels::matmul_forward(x, weight_.value(), y, chunks_.in, stream);
  }
  return y;
}

Tensor Linear::backward_input(const Tensor& dy, DType dx_dtype, Stream& stream) const {
  Tensor dx = Tensor::empty(Shape{dy.size(0), in_size()}, dx_dtype, stream);
  backward_input(dy, dx, kernels::Accumulate::kOverwrite, stream);
  return dx;
}

void Linear::backward_input(const Tensor& dy, Tensor& dx, kernels::Accumulate accumulate,
                            Stream& stream) const {
  kernels::matmul_backward_input(dy, weight_.value(), dx, {accumulate, chunks_.out}, stream);
}

void Linear::backward_weight(const Tensor& dy, const Tensor& x, Stream& stream) {
  kernels::matmul_backward_weight(dy, x, weight_.grad, stream);
}

}  // namespace fathom::model
