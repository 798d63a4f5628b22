#include "kernels/matmul.h"

#include "core/error.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)> matmul_forward_slot(
    "matmul_forward");
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Accumulate, Stream&)>
    matmul_backward_input_slot("matmul_backward_input");
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Accumulate, Stream&)>
    matmul_backward_weight_slot("matmul_backward_weight");

namespace {

// y = x W^T and its two gradients take tensors of the same shapes.
void check_linear(const char* operation, const Tensor& x, const Tensor& w, const Tensor& y) {
  FATHOM_CHECK(
      x.dtype() == DType::kFloat32 && w.dtype() == DType::kFloat32 && y.dtype() == DType::kFloat32,
      operation, " wants float32: x ", x.dtype(), ", w ", w.dtype(), ", y ", y.dtype());
  FATHOM_CHECK(x.shape().rank() == 2 && w.shape().rank() == 2 && y.shape().rank() == 2, operation,
               " wants matrices: x ", x.shape(), ", w ", w.shape(), ", y ", y.shape());
  FATHOM_CHECK(x.size(0) == y.size(0) && x.size(1) >= w.size(1) && y.size(1) == w.size(0),
               operation, ": x ", x.shape(), ", w ", w.shape(), ", y ", y.shape());
}

}  // namespace

void matmul_forward(const Tensor& x, const Tensor& w, Tensor& y, Stream& stream) {
  check_linear("matmul_forward", x, w, y);
  matmul_forward_slot(stream, x, w, y);
}

void matmul_backward_input(const Tensor& dy, const Tensor& w, Tensor& dx, Accumulate accumulate,
                           Stream& stream) {
  check_linear("matmul_backward_input", dx, w, dy);
  matmul_backward_input_slot(stream, dy, w, dx, accumulate);
}

void matmul_backward_weight(const Tensor& dy, const Tensor& x, Tensor& dw, Accumulate accumulate,
                            Stream& stream) {
  check_linear("matmul_backward_weight", x, dw, dy);
  matmul_backward_weight_slot(stream, dy, x, dw, accumulate);
}

}  // namespace fathom::kernels
