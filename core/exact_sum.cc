#include "core/exact_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace fathom {
namespace {

constexpr int kLimbBits = 32;
constexpr int kLowestExponent = -192;  // of bit 0 of limb 0
constexpr int kLargestExponent = 128;  // terms are below 2^128
constexpr int kMantissaBits = 52;
constexpr int kExponentBias = 1023;
constexpr std::int64_t kLimbMask = 0xffffffff;
constexpr std::int64_t kMaxTerms = std::int64_t{1} << 30;

using Limbs = std::array<std::int64_t, ExactSum::kNumLimbs>;

// Afterwards all limbs but the last are in [0, 2^32); the last carries the sign.
void propagate_carries(Limbs& limbs) noexcept {
  for (std::size_t i = 0; i + 1 < limbs.size(); ++i) {
    limbs[i + 1] += limbs[i] >> kLimbBits;  // arithmetic: rounds down, so the rest is not negative
    limbs[i] &= kLimbMask;
  }
}

std::uint64_t bit(const Limbs& limbs, int position) noexcept {
  const auto limb = limbs[static_cast<std::size_t>(position / kLimbBits)];
  return (static_cast<std::uint64_t>(limb) >> (position % kLimbBits)) & 1U;
}

// Limbs are in [0, 2^32). The highest 53 bits, rounded to nearest, ties to even.
double rounded_magnitude(const Limbs& limbs) noexcept {
  int top = ExactSum::kNumLimbs - 1;
  while (top >= 0 && limbs[static_cast<std::size_t>(top)] == 0) {
    --top;
  }
  if (top < 0) {
    return 0.0;
  }
  const auto leading = static_cast<std::uint64_t>(limbs[static_cast<std::size_t>(top)]);
  const int highest = top * kLimbBits + static_cast<int>(std::bit_width(leading)) - 1;
  const int lowest = std::max(0, highest - kMantissaBits);
  std::uint64_t mantissa = 0;
  for (int position = highest; position >= lowest; --position) {
    mantissa = mantissa << 1 | bit(limbs, position);
  }
  if (lowest > 0 && bit(limbs, lowest - 1) != 0) {
    bool is_tie = true;
    for (int position = lowest - 2; position >= 0 && is_tie; --position) {
      is_tie = bit(limbs, position) == 0;
    }
    mantissa += is_tie ? mantissa & 1U : 1U;
  }
  return std::ldexp(static_cast<double>(mantissa), lowest + kLowestExponent);
}

}  // namespace

void ExactSum::add(double x) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  const int biased = static_cast<int>(bits >> kMantissaBits & 0x7ffU);
  if (biased - kExponentBias >= kLargestExponent) {  // also Inf and NaN
    ++num_invalid_;
    return;
  }
  if (biased == 0) {  // zero, or far below 2^-192
    return;
  }
  std::uint64_t mantissa =
      (bits & ((std::uint64_t{1} << kMantissaBits) - 1)) | std::uint64_t{1} << kMantissaBits;
  int position = biased - kExponentBias - kMantissaBits - kLowestExponent;
  if (position < 0) {
    if (position <= -64) {
      return;
    }
    mantissa >>= -position;
    position = 0;
  }
  const auto limb = static_cast<std::size_t>(position / kLimbBits);
  const int shift = position % kLimbBits;
  const std::uint64_t low = (mantissa & 0xffffffffU) << shift;  // below 2^63
  const std::uint64_t high = (mantissa >> kLimbBits << shift) + (low >> kLimbBits);
  const std::int64_t sign = (bits >> 63) != 0 ? -1 : 1;
  limbs_[limb] += sign * static_cast<std::int64_t>(low & 0xffffffffU);
  limbs_[limb + 1] += sign * static_cast<std::int64_t>(high & 0xffffffffU);
  limbs_[limb + 2] += sign * static_cast<std::int64_t>(high >> kLimbBits);
  if (++num_terms_ >= kMaxTerms) {
    normalize();
  }
}

void ExactSum::add(const ExactSum& other) noexcept {
  ExactSum normalized = other;
  normalized.normalize();
  for (std::size_t i = 0; i < limbs_.size(); ++i) {
    limbs_[i] += normalized.limbs_[i];
  }
  num_invalid_ += normalized.num_invalid_;
  if (++num_terms_ >= kMaxTerms) {
    normalize();
  }
}

double ExactSum::value() const noexcept {
  if (num_invalid_ != 0) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  Limbs limbs = limbs_;
  propagate_carries(limbs);
  if (limbs.back() >= 0) {
    return rounded_magnitude(limbs);
  }
  for (std::int64_t& limb : limbs) {
    limb = -limb;
  }
  propagate_carries(limbs);
  return -rounded_magnitude(limbs);
}

std::array<std::int64_t, ExactSum::kNumLimbs + 1> ExactSum::to_integers() const noexcept {
  ExactSum normalized = *this;
  normalized.normalize();
  std::array<std::int64_t, kNumLimbs + 1> integers{};
  std::copy(normalized.limbs_.begin(), normalized.limbs_.end(), integers.begin());
  integers.back() = num_invalid_;
  return integers;
}

ExactSum ExactSum::from_integers(std::span<const std::int64_t> integers) noexcept {
  ExactSum sum;
  std::copy_n(integers.begin(), kNumLimbs, sum.limbs_.begin());
  sum.num_invalid_ = integers[kNumLimbs];
  sum.normalize();
  return sum;
}

void ExactSum::normalize() noexcept {
  propagate_carries(limbs_);
  num_terms_ = 1;  // what is left in a limb is no more than one term adds
}

}  // namespace fathom
