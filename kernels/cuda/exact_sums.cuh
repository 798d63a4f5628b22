#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/exact_sums.h"

// The arithmetic of ExactSum (core/exact_sum.cc) on a device.
namespace fathom::kernels::cuda {

inline constexpr int kLimbs = ExactSum::kNumLimbs;
inline constexpr int kLimbBits = 32;
inline constexpr int kLowestExponent = -192;  // of bit 0 of limb 0
inline constexpr int kLargestExponent = 128;  // terms are below 2^128
inline constexpr int kMantissaBits = 52;      // of a double
inline constexpr int kExponentBias = 1023;

// Calls add(number, value) for the numbers of an exact sum that x changes; |x| < 2^160, as a sum of
// terms may be.
template <class Add>
__device__ __forceinline__ void add_number(double x, const Add& add) {
  constexpr std::uint64_t kLow = 0xffffffffU;
  const auto bits = static_cast<std::uint64_t>(__double_as_longlong(x));
  const int biased = static_cast<int>(bits >> kMantissaBits & 0x7ffU);
  std::uint64_t mantissa =
      (bits & ((std::uint64_t{1} << kMantissaBits) - 1)) | std::uint64_t{1} << kMantissaBits;
  int position = biased - kExponentBias - kMantissaBits - kLowestExponent;
  if (biased == 0 || position <= -64) {  // zero, or far below 2^-192
    return;
  }
  if (position < 0) {
    mantissa >>= -position;
    position = 0;
  }
  const int limb = position / kLimbBits;
  const int shift = position % kLimbBits;
  const std::uint64_t low = (mantissa & kLow) << shift;  // below 2^63
  const std::uint64_t high = (mantissa >> kLimbBits << shift) + (low >> kLimbBits);
  const std::int64_t sign = (bits >> 63) != 0 ? -1 : 1;
  add(limb, sign * static_cast<std::int64_t>(low & kLow));
  add(limb + 1, sign * static_cast<std::int64_t>(high & kLow));
  add(limb + 2, sign * static_cast<std::int64_t>(high >> kLimbBits));
}

// What a thread has found, in registers: every number is compared with each place, since terms of
// like size, as losses are, would wait for one another at the same places of shared memory.
struct Found {
  std::int64_t numbers[kExactSumIntegers] = {};

  __device__ __forceinline__ void add(double x) {
    add_number(x, [this](int number, std::int64_t value) {
#pragma unroll
      for (int i = 0; i < kExactSumIntegers; ++i) {
        numbers[i] += i == number ? value : 0;
      }
    });
  }
  // x as ExactSum::add takes it: one that is too large makes the sum NaN.
  __device__ __forceinline__ void add_term(double x) {
    const auto bits = static_cast<std::uint64_t>(__double_as_longlong(x));
    const int biased = static_cast<int>(bits >> kMantissaBits & 0x7ffU);
    if (biased - kExponentBias >= kLargestExponent) {  // also Inf and NaN
      ++numbers[kLimbs];
    } else {
      add(x);
    }
  }
};

// Afterwards all limbs but the last are in [0, 2^32); the last carries the sign.
__device__ __forceinline__ void propagate_carries(std::int64_t* limbs) {
#pragma unroll
  for (int i = 0; i + 1 < kLimbs; ++i) {
    limbs[i + 1] += limbs[i] >> kLimbBits;
    limbs[i] &= 0xffffffff;
  }
}

}  // namespace fathom::kernels::cuda
