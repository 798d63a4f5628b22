#include "kernels/matmul.h"

#include <bit>
#include <string_view>

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, int, Stream&)> matmul_forward_slot(
    "matmul_forward");
constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, const InputGradientOptions&,
                          Stream&)>
    matmul_backward_input_slot("matmul_backward_input");
constinit KernelSlot<void(const Tensor&, const Tensor&, GradientSum&, Stream&)>
    matmul_backward_weight_slot("matmul_backward_weight");

namespace {

// y = x W^T and its two gradients take tensors of the same shapes.
void check_linear(const TensorCheck& check, const Tensor& x, const Shape& w, const Tensor& y) {
  check.rank("x or dx", x, 2);
  FATHOM_CHECK(w.rank() == 2, "w or dw ", w);
  check.rows("x or dx", x, x.size(0), w[1], x.dtype());
  check.shape("y or dy", y, {x.size(0), w[0]}, y.dtype());
}

void check_float_or(DType dtype, const TensorCheck& check, std::string_view name,
                    const Tensor& tensor) {
  check.dtype_and_device(name, tensor, tensor.dtype() == DType::kFloat32 ? DType::kFloat32 : dtype);
}

void check_chunks(int num_chunks, std::int64_t inner) {
  FATHOM_CHECK(num_chunks > 0 && std::has_single_bit(static_cast<unsigned>(num_chunks)) &&
                   inner % num_chunks == 0,
               num_chunks, " chunks of an inner size of ", inner);
}

}  // namespace

void matmul_forward(const Tensor& x, const Tensor& w, Tensor& y, int num_chunks, Stream& stream) {
  const TensorCheck check("matmul_forward", stream);
  check_linear(check, x, w.shape(), y);
  const DType dtype = check.activation_dtype("x", x);
  check.dtype_and_device("w", w, dtype);
  check_float_or(dtype, check, "y", y);
  check_chunks(num_chunks, w.size(1));
  matmul_forward_slot(stream, x, w, y, num_chunks);
}

void matmul_backward_input(const Tensor& dy, const Tensor& w, Tensor& dx,
                           const InputGradientOptions& options, Stream& stream) {
  const TensorCheck check("matmul_backward_input", stream);
  check_linear(check, dx, w.shape(), dy);
  const DType dtype = check.activation_dtype("w", w);
  check_float_or(dtype, check, "dx", dx);
  check_float_or(dtype, check, "dy", dy);
  check_chunks(options.num_chunks, w.size(0));
  FATHOM_CHECK(options.num_chunks == 1 || options.accumulate == Accumulate::kOverwrite,
               "adding a sum of ", options.num_chunks, " chunks");
  matmul_backward_input_slot(stream, dy, w, dx, options);
}

void matmul_backward_weight(const Tensor& dy, const Tensor& x, GradientSum& dw, Stream& stream) {
  const TensorCheck check("matmul_backward_weight", stream);
  check_linear(check, x, dw.sum.shape(), dy);
  check_float_or(check.activation_dtype("x", x), check, "dy", dy);
  check_gradient(check, "dw", dw, dw.sum.shape(), x.size(0));
  matmul_backward_weight_slot(stream, dy, x, dw);
  dw.is_empty = false;
}

}  // namespace fathom::kernels
