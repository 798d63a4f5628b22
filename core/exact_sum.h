#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace fathom {

// A sum of doubles without any rounding until it is read: fixed-point limbs of 32 bits, each held
// in an int64, so that the result does not depend on the order of the terms or on how they were
// spread over threads and ranks. Range: |x| < 2^128, multiples of 2^-192 (smaller parts of a term
// are dropped: they are below 2^-192 in absolute value); a term outside the range or not finite
// makes the sum NaN. Up to 2^30 terms between normalizations are counted inside and handled.
class ExactSum {
 public:
  static constexpr int kNumLimbs = 12;  // 2^-192 ... 2^192

  void add(double x) noexcept;
  void add(const ExactSum& other) noexcept;
  // The sum rounded to the nearest double, ties to even.
  double value() const noexcept;
  void clear() noexcept { *this = ExactSum(); }

  // For an integer all_reduce(sum): write limbs() out, add those of all ranks element by element,
  // read back. The spans hold kNumLimbs numbers and a count of invalid terms, all int64, carries
  // normalized.
  std::array<std::int64_t, kNumLimbs + 1> to_integers() const noexcept;
  static ExactSum from_integers(std::span<const std::int64_t> integers) noexcept;

 private:
  void normalize() noexcept;
  std::array<std::int64_t, kNumLimbs> limbs_{};
  std::int64_t num_invalid_ = 0;
  std::int64_t num_terms_ = 0;  // since the last normalize()
};

}  // namespace fathom
