#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/exact_sum.h"
#include "core/host_copy.h"
#include "kernels/adamw.h"
#include "kernels/exact_sums.h"

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

}  // namespace fathom::kernels
