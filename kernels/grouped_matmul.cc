#include "kernels/grouped_matmul.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    grouped_matmul_forward_slot("grouped_matmul_forward");
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    grouped_matmul_backward_input_slot("grouped_matmul_backward_input");
constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Accumulate,
                          Stream&)>
    grouped_matmul_backward_weight_slot("grouped_matmul_backward_weight");

namespace {

void check_grouped(const TensorCheck& check, const Tensor& x, const Tensor& w,
                   const Tensor& offsets, const Tensor& y) {
  check.rank("w or dw", w, 3);
  check.rank("x or dx", x, 2);
  check.dtype_and_device("w or dw", w, DType::kFloat32);
  check.shape("x or dx", x, {x.size(0), w.size(2)});
  check.shape("y or dy", y, {x.size(0), w.size(1)});
  check.shape("offsets", offsets, {w.size(0) + 1}, DType::kInt64);
}

}  // namespace

void grouped_matmul_forward(const Tensor& x, const Tensor& w, const Tensor& offsets, Tensor& y,
                            Stream& stream) {
  check_grouped({"grouped_matmul_forward", stream}, x, w, offsets, y);
  grouped_matmul_forward_slot(stream, x, w, offsets, y);
}

void grouped_matmul_backward_input(const Tensor& dy, const Tensor& w, const Tensor& offsets,
                                   Tensor& dx, Stream& stream) {
  check_grouped({"grouped_matmul_backward_input", stream}, dx, w, offsets, dy);
  grouped_matmul_backward_input_slot(stream, dy, w, offsets, dx);
}

void grouped_matmul_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& offsets,
                                    Tensor& dw, Accumulate accumulate, Stream& stream) {
  check_grouped({"grouped_matmul_backward_weight", stream}, x, dw, offsets, dy);
  grouped_matmul_backward_weight_slot(stream, dy, x, offsets, dw, accumulate);
}

}  // namespace fathom::kernels
