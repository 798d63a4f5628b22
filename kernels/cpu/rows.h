#pragma once

#include <limits>

#include "kernels/cpu/simd.h"

// What several kernels do with one row of floats of any length, over 16 lanes and a halving tree.
namespace fathom::kernels::simd {

// A block whose lanes beyond the end of the row are `beyond`.
HWY_INLINE Floats load_or(const float* from, WholeBlock block, float /*beyond*/) {
  return load(from, block);
}
HWY_INLINE Floats load_or(const float* from, PartBlock block, float beyond) {
  return select(first_lanes(block.count), load(from, block), broadcast(beyond));
}

// The largest element, -inf of none. NaN elements may be overlooked.
HWY_INLINE float row_max(const float* row, std::int64_t size) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  Floats largest = broadcast(kNone);
  for_each_block(size, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    largest = max(largest, load_or(row + i, extent, kNone));
  });
  return max(largest);
}

HWY_INLINE float row_sum(const float* row, std::int64_t size) {
  Floats total = zero();
  for_each_block(size, [&](std::int64_t i, auto extent)
                           FATHOM_INLINE_LAMBDA { total = total + load(row + i, extent); });
  return sum(total);
}

// sum of a * b, each term fused into its lane.
HWY_INLINE float row_dot(const float* a, const float* b, std::int64_t size) {
  Floats total = zero();
  for_each_block(size, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    total = fma(load(a + i, extent), load(b + i, extent), total);
  });
  return sum(total);
}

// to = exp(from - offset), returned summed; 0 for powers below about 2^-126. offset >= all of
// `from`; `to` may be `from`.
HWY_INLINE float row_exp_sum(const float* from, float offset, float* to, std::int64_t size) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();  // exp(kNone) = 0
  const Floats shift = broadcast(offset);
  Floats total = zero();
  for_each_block(size, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
    const Floats power = exp_or_zero(load_or(from + i, extent, kNone) - shift);
    store(power, to + i, extent);
    total = total + power;
  });
  return sum(total);
}

}  // namespace fathom::kernels::simd
