#include "kernels/gradient_norm.h"

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, Tensor&, Tensor&, Stream&)> sum_of_squares_slot{
    "sum_of_squares"};
constinit KernelSlot<void(const Tensor&, const Tensor&, double, Tensor&, Stream&)>
    update_scale_slot{"update_scale"};

void sum_of_squares(const Tensor& x, Tensor& sum, Tensor& num_non_finite, Stream& stream) {
  const TensorCheck check("sum_of_squares", stream);
  FATHOM_CHECK(x.dtype() == DType::kFloat32 || x.dtype() == DType::kBFloat16, "x is ", x.dtype());
  check.dtype_and_device("x", x, x.dtype());
  check.numel("sum", sum, kExactSumIntegers, DType::kInt64);
  check.numel("num_non_finite", num_non_finite, 1, DType::kInt64);
  sum_of_squares_slot(stream, x, sum, num_non_finite);
}

void update_scale(const Tensor& sums, const Tensor& counters, double max_norm, Tensor& scale,
                  Stream& stream) {
  const TensorCheck check("update_scale", stream);
  check.rank("sums", sums, 2);
  check.shape("sums", sums, Shape{sums.size(0), kExactSumIntegers}, DType::kInt64);
  FATHOM_CHECK(sums.size(0) >= 1, "update_scale without a sum of squares");
  check.dtype_and_device("counters", counters, DType::kInt64);
  check.numel("scale", scale, 1, DType::kFloat32);
  update_scale_slot(stream, sums, counters, max_norm, scale);
}

}  // namespace fathom::kernels
