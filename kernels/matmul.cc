#include "kernels/matmul.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)> matmul_forward_slot(
    "matmul_forward");
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Accumulate, Stream&)>
    matmul_backward_input_slot("matmul_backward_input");
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Accumulate, Stream&)>
    matmul_backward_weight_slot("matmul_backward_weight");

namespace {

// y = x W^T and its two gradients take tensors of the same shapes.
void check_linear(const TensorCheck& check, const Tensor& x, const Tensor& w, const Tensor& y) {
  check.rank("w or dw", w, 2);
  check.rank("x or dx", x, 2);
  check.dtype_and_device("w or dw", w, DType::kFloat32);
  check.rows("x or dx", x, x.size(0), w.size(1));
  check.shape("y or dy", y, {x.size(0), w.size(0)});
}

}  // namespace

void matmul_forward(const Tensor& x, const Tensor& w, Tensor& y, Stream& stream) {
  check_linear({"matmul_forward", stream}, x, w, y);
  matmul_forward_slot(stream, x, w, y);
}

void matmul_backward_input(const Tensor& dy, const Tensor& w, Tensor& dx, Accumulate accumulate,
                           Stream& stream) {
  check_linear({"matmul_backward_input", stream}, dx, w, dy);
  matmul_backward_input_slot(stream, dy, w, dx, accumulate);
}

void matmul_backward_weight(const Tensor& dy, const Tensor& x, Tensor& dw, Accumulate accumulate,
                            Stream& stream) {
  check_linear({"matmul_backward_weight", stream}, x, dw, dy);
  matmul_backward_weight_slot(stream, dy, x, dw, accumulate);
}

}  // namespace fathom::kernels
