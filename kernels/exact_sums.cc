#include "kernels/exact_sums.h"

#include <span>

#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const Tensor&, std::int64_t, std::int64_t, Tensor&, Stream&)>
    add_exactly_slot{"add_exactly"};

void add_exactly(const Tensor& x, std::int64_t first, std::int64_t stride, Tensor& sum,
                 Stream& stream) {
  const TensorCheck check("add_exactly", stream);
  FATHOM_CHECK(first >= 0 && stride >= 1, "add_exactly: from ", first, " in steps of ", stride);
  check.dtype_and_device("x", x, x.dtype() == DType::kInt64 ? DType::kInt64 : DType::kFloat32);
  check.numel("sum", sum, kExactSumIntegers, DType::kInt64);
  add_exactly_slot(stream, x, first, stride, sum);
}

std::vector<double> exact_sum_values(const std::vector<std::int64_t>& sums) {
  constexpr auto kWidth = static_cast<std::size_t>(kExactSumIntegers);
  FATHOM_CHECK(sums.size() % kWidth == 0, sums.size(), " numbers of exact sums");
  std::vector<double> values;
  for (std::size_t first = 0; first < sums.size(); first += kWidth) {
    values.push_back(ExactSum::from_integers(std::span(sums).subspan(first, kWidth)).value());
  }
  return values;
}

}  // namespace fathom::kernels
