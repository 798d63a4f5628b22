#include "kernels/grouped_matmul.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    grouped_matmul_forward_slot("grouped_matmul_forward");
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    grouped_matmul_backward_input_slot("grouped_matmul_backward_input");
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, GradientSum&, Stream&)>
    grouped_matmul_backward_weight_slot("grouped_matmul_backward_weight");

namespace {

DType check_grouped(const TensorCheck& check, const Tensor& x, const Shape& w, const Tensor& y) {
  FATHOM_CHECK(w.rank() == 3, "w or dw ", w);
  check.rank("x or dx", x, 2);
  const DType dtype = check.activation_dtype("x or dx", x);
  check.shape("x or dx", x, {x.size(0), w[2]}, dtype);
  check.shape("y or dy", y, {x.size(0), w[1]}, dtype);
  return dtype;
}

void check_products(const TensorCheck& check, const Tensor& x, const Tensor& w,
                    const Tensor& offsets, const Tensor& y) {
  check.dtype_and_device("w", w, check_grouped(check, x, w.shape(), y));
  check.shape("offsets", offsets, {w.size(0) + 1}, DType::kInt64);
}

}  // namespace

void grouped_matmul_forward(const Tensor& x, const Tensor& w, const Tensor& offsets, Tensor& y,
                            Stream& stream) {
  check_products({"grouped_matmul_forward", stream}, x, w, offsets, y);
  grouped_matmul_forward_slot(stream, x, w, offsets, y);
}

void grouped_matmul_backward_input(const Tensor& dy, const Tensor& w, const Tensor& offsets,
                                   Tensor& dx, Stream& stream) {
  check_products({"grouped_matmul_backward_input", stream}, dx, w, offsets, dy);
  grouped_matmul_backward_input_slot(stream, dy, w, offsets, dx);
}

void grouped_matmul_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& part_offsets,
                                    GradientSum& dw, Stream& stream) {
  const TensorCheck check("grouped_matmul_backward_weight", stream);
  check_grouped(check, x, dw.sum.shape(), dy);
  check_gradient(check, "dw", dw, dw.sum.shape(), 0);
  check.rank("part_offsets", part_offsets, 1);
  check.dtype_and_device("part_offsets", part_offsets, DType::kInt64);
  FATHOM_CHECK(part_offsets.numel() > 1 && (part_offsets.numel() - 1) % dw.sum.size(0) == 0,
               part_offsets.numel() - 1, " parts of the rows of ", dw.sum.size(0), " experts");
  grouped_matmul_backward_weight_slot(stream, dy, x, part_offsets, dw);
  dw.is_empty = false;
}

}  // namespace fathom::kernels
