#include "kernels/exact_sums.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace fathom::kernels {
namespace {

void add_exactly_cpu(const Tensor& x, std::int64_t first, std::int64_t stride, Tensor& sum,
                     Stream& /*stream*/) {
  ExactSum total = ExactSum::from_integers(sum.values<std::int64_t>());
  for (std::int64_t i = first; i < x.numel(); i += stride) {
    total.add(x.dtype() == DType::kInt64 ? std::bit_cast<double>(x.data<std::int64_t>()[i])
                                         : static_cast<double>(x.data<float>()[i]));
  }
  std::ranges::copy(total.to_integers(), sum.mutable_data<std::int64_t>());
}

void update_scale_cpu(const Tensor& sums, const Tensor& counters, double max_norm, Tensor& scale,
                      Stream& /*stream*/) {
  const auto integers = sums.values<std::int64_t>();
  const std::vector<double> values = exact_sum_values({integers.begin(), integers.end()});
  const bool is_finite =
      std::ranges::all_of(values, [](double value) { return std::isfinite(value); }) &&
      std::ranges::all_of(counters.values<std::int64_t>(), [](auto count) { return count == 0; });
  const double norm = std::sqrt(values[0]);
  const double factor = max_norm > 0.0 && norm > max_norm ? max_norm / norm : 1.0;
  scale.mutable_data<float>()[0] =
      is_finite ? static_cast<float>(factor) : std::numeric_limits<float>::quiet_NaN();
}

const KernelRegistration register_add(add_exactly_slot, DeviceType::kCpu, add_exactly_cpu);
const KernelRegistration register_scale(update_scale_slot, DeviceType::kCpu, update_scale_cpu);

}  // namespace
}  // namespace fathom::kernels
