#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/exact_sum.h"
#include "core/host_copy.h"
#include "core/rng.h"
#include "kernels/exact_sums.h"
#include "kernels/gradient_norm.h"

namespace fathom::kernels {

inline Tensor tensor_of_sum(const ExactSum& sum, Stream& stream) {
  Tensor tensor = Tensor::empty(Shape{kExactSumIntegers}, DType::kInt64, stream);
  from_host<std::int64_t>(sum.to_integers(), tensor, stream);
  return tensor;
}

// The operation on host numbers: sum += sum of x^2, and how many elements are not finite.
inline void sum_of_squares(const Tensor& x, ExactSum& sum, std::int64_t& num_non_finite,
                           Stream& stream) {
  Tensor total = tensor_of_sum(sum, stream);
  Tensor count = Tensor::zeros(Shape{1}, DType::kInt64, stream);
  sum_of_squares(x, total, count, stream);
  sum = ExactSum::from_integers(to_host<std::int64_t>(total, stream));
  num_non_finite = to_host<std::int64_t>(count, stream)[0];
}

// Normal numbers times 2^e, e spread over [low, high].
inline std::vector<float> spread(std::size_t count, int low, int high) {
  const RandomSource random(3, "spread");
  const std::uint64_t num_exponents = static_cast<std::uint64_t>(high - low) + 1;
  std::vector<float> x;
  for (std::size_t i = 0; i < count; ++i) {
    const auto exponent = low + static_cast<int>(random.below(2 * i, num_exponents));
    x.push_back(std::ldexp(random.normal(2 * i + 1), exponent));
  }
  return x;
}

}  // namespace fathom::kernels
