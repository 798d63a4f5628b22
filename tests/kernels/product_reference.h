#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "kernels/gradient_sum.h"

namespace fathom::kernels {

inline Tensor random_tensor(const Shape& shape, const std::string& purpose, Stream& stream) {
  Tensor x = Tensor::empty(shape, DType::kFloat32, stream);
  const RandomSource random(1, purpose);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    x.mutable_data<float>()[i] = random.normal(static_cast<std::uint64_t>(i));
  }
  return x;
}

// A sum of float32 contributions, one a call, in `values`.
inline GradientSum float_sum(const Tensor& values) {
  GradientSum gradient;
  gradient.sum = values;
  return gradient;
}

// One of zeros, of integers in multiples of 2^-fraction_bits.
inline GradientSum integer_sum(const Shape& shape, int fraction_bits, float limit, Stream& stream) {
  GradientSum gradient;
  gradient.sum = Tensor::zeros(shape, DType::kInt64, stream);
  gradient.num_refused = Tensor::zeros(Shape{1}, DType::kInt64, stream);
  gradient.fraction_bits = fraction_bits;
  gradient.limit = limit;
  return gradient;
}

// A matrix element by element: at(row, column).
struct MatrixView {
  const float* data = nullptr;
  std::int64_t row_stride = 0;
  std::int64_t column_stride = 0;
  float at(std::int64_t row, std::int64_t column) const {
    return data[row * row_stride + column * column_stride];
  }
};

// start + one chain of fused multiply-adds per 256 of the inner dimension, slices added in order;
// without `is_adding` the first slice is the start.
inline float reference_element(const MatrixView& a, const MatrixView& b, std::int64_t row,
                               std::int64_t column, std::int64_t inner, bool is_adding,
                               float start) {
  float result = is_adding ? start : 0.0F;
  for (std::int64_t first = 0; first < inner; first += 256) {
    float chain = 0.0F;
    for (std::int64_t k = first; k < inner && k < first + 256; ++k) {
      chain = std::fma(a.at(row, k), b.at(k, column), chain);
    }
    result = is_adding || first > 0 ? result + chain : chain;
  }
  return result;
}

// How many of the elements differ in any bit.
inline std::int64_t count_differences(std::span<const float> found, std::span<const float> want) {
  std::int64_t count = found.size() == want.size() ? 0 : 1;
  for (std::size_t i = 0; i < found.size() && i < want.size(); ++i) {
    count +=
        std::bit_cast<std::uint32_t>(found[i]) == std::bit_cast<std::uint32_t>(want[i]) ? 0 : 1;
  }
  return count;
}

}  // namespace fathom::kernels
