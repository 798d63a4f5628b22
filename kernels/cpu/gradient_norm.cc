#include "kernels/gradient_norm.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <mutex>
#include <type_traits>
#include <vector>

#include "core/exact_sum.h"
#include "kernels/cpu/simd.h"

// Of sum_of_squares: the square of a float32 is exact in a double, and a sum of squares stays exact
// as long as all bits of its terms fit a few doubles between them. So a block is summed by
// magnitude: elements within a factor 2^36 of the largest have squares that are multiples of 2^-120
// of a common bound, and 120 bits are three slices of 40, each of which leaves a double 13 bits to
// add up 4096 terms. Elements below that form the next pass, with a bound of their own; nearly
// always there is none. What lies outside the range in which this and ExactSum agree bit for bit
// (its ends cut or reject) goes there one by one.
namespace fathom::kernels {
namespace {

namespace hn = simd::hn;

constexpr std::int64_t kGrain = 65536;
constexpr std::int64_t kBlock = 4096;
constexpr int kLanes = 8;

using FloatTag = hn::CappedTag<float, kLanes>;
using BitsTag = hn::Rebind<std::uint32_t, FloatTag>;
using DoubleTag = hn::CappedTag<double, kLanes / 2>;
using HalfTag = hn::Rebind<float, DoubleTag>;
using Doubles = hn::Vec<DoubleTag>;

constexpr int kMantissaBits = 23;
constexpr int kExponentBias = 127;
constexpr std::uint32_t kAbsoluteMask = 0x7fffffff;
constexpr std::uint32_t kInfinity = 0x7f800000;
constexpr int kPassExponents = 36;
constexpr int kSliceBits = 40;
constexpr int kLowestExponent = -73;  // below it ExactSum drops bits of a square
constexpr int kLargestExponent = 52;  // a block of such squares is below ExactSum's bound of 2^128

// The bits of 2^exponent as a float32; those of |x| are below them when |x| is.
constexpr std::uint32_t bits_of_power(int exponent) {
  return static_cast<std::uint32_t>(exponent + kExponentBias) << kMantissaBits;
}

// Bits of |x| in [lowest, end).
struct Range {
  std::uint32_t lowest;
  std::uint32_t end;
};

struct Extremes {
  std::uint32_t largest;           // bits of the largest |x|
  std::uint32_t smallest_nonzero;  // bits of the smallest |x| > 0
};

// Of the elements whose bits are below `end_bits`.
Extremes extremes(const float* x, std::uint32_t end_bits) {
  const FloatTag d;
  const BitsTag du;
  const auto mask = hn::Set(du, kAbsoluteMask);
  const auto end = hn::Set(du, end_bits);
  auto largest = hn::Zero(du);
  auto smallest = hn::Set(du, std::numeric_limits<std::uint32_t>::max());
  for (std::int64_t i = 0; i < kBlock; i += kLanes) {
    auto bits = hn::And(hn::BitCast(du, hn::LoadU(d, x + i)), mask);
    bits = hn::IfThenElseZero(hn::Lt(bits, end), bits);
    largest = hn::Max(largest, bits);
    smallest = hn::Min(smallest, hn::Sub(bits, hn::Set(du, 1)));  // zero becomes the largest number
  }
  return {hn::GetLane(hn::MaxOfLanes(du, largest)), hn::GetLane(hn::MinOfLanes(du, smallest)) + 1};
}

// Sums of squares in three slices, exact.
class Slices {
 public:
  // For squares below 2^(2 * exponent + 2).
  explicit Slices(int exponent) {
    for (int i = 0; i < kNumSlices; ++i) {
      // Adding 1.5 * 2^52 units and taking them away again rounds to a multiple of the unit.
      const int unit = 2 * exponent + 2 - (i + 1) * kSliceBits;
      rounders_[i] = hn::Set(DoubleTag(), std::ldexp(1.5, unit + 52));
      totals_[i] = hn::Zero(DoubleTag());
    }
  }
  HWY_INLINE void add_square(Doubles x) {
    auto rest = hn::Mul(x, x);
    for (int i = 0; i + 1 < kNumSlices; ++i) {
      const auto slice = hn::Sub(hn::Add(rest, rounders_[i]), rounders_[i]);
      totals_[i] = hn::Add(totals_[i], slice);
      rest = hn::Sub(rest, slice);
    }
    totals_[kNumSlices - 1] = hn::Add(totals_[kNumSlices - 1], rest);
  }
  void move_to(ExactSum& sum) const {
    for (const Doubles& total : totals_) {
      sum.add(hn::GetLane(hn::SumOfLanes(DoubleTag(), total)));  // no bit is lost in any order
    }
  }

 private:
  static constexpr int kNumSlices = 3;
  Doubles rounders_[kNumSlices];
  Doubles totals_[kNumSlices];
};

// Adds the squares of the elements in `range`, those outside taken as zeros when there are any.
template <bool kHasOutside>
void add_pass(const float* x, Range range, int exponent, ExactSum& sum) {
  const FloatTag d;
  const BitsTag du;
  const HalfTag dh;
  const DoubleTag dd;
  Slices slices(exponent);
  for (std::int64_t i = 0; i < kBlock; i += kLanes) {
    auto values = hn::LoadU(d, x + i);
    if constexpr (kHasOutside) {
      const auto bits = hn::And(hn::BitCast(du, values), hn::Set(du, kAbsoluteMask));
      const auto is_inside =
          hn::AndNot(hn::Lt(bits, hn::Set(du, range.lowest)), hn::Lt(bits, hn::Set(du, range.end)));
      values = hn::IfThenElseZero(hn::RebindMask(d, is_inside), values);
    }
    slices.add_square(hn::PromoteTo(dd, hn::LowerHalf(dh, values)));
    slices.add_square(hn::PromoteTo(dd, hn::UpperHalf(dh, values)));
  }
  slices.move_to(sum);
}

// One by one: the elements in `range`. Returns how many of them are not finite.
std::int64_t add_singly(const float* x, Range range, ExactSum& sum) {
  std::int64_t num_non_finite = 0;
  for (std::int64_t i = 0; i < kBlock; ++i) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]) & kAbsoluteMask;
    if (bits < range.lowest || bits >= range.end) {
      continue;
    }
    if (bits >= kInfinity) {
      ++num_non_finite;
    } else {
      sum.add(static_cast<double>(x[i]) * static_cast<double>(x[i]));
    }
  }
  return num_non_finite;
}

// kBlock elements. Returns how many are not finite.
std::int64_t add_block(const float* x, ExactSum& sum) {
  std::int64_t num_non_finite = 0;
  std::uint32_t end = kAbsoluteMask + 1;  // first all, then what is below the last pass
  for (bool is_first = true;; is_first = false) {
    const Extremes found = extremes(x, end);
    if (found.largest == 0) {
      return num_non_finite;
    }
    const int exponent = static_cast<int>(found.largest >> kMantissaBits) - kExponentBias;
    if (exponent >= kLargestExponent) {
      num_non_finite += add_singly(x, {bits_of_power(kLargestExponent), end}, sum);
      end = bits_of_power(kLargestExponent);
      continue;
    }
    if (exponent < kLowestExponent) {
      return num_non_finite + add_singly(x, {1, end}, sum);
    }
    const Range range{bits_of_power(std::max(exponent - kPassExponents, kLowestExponent)), end};
    if (is_first && found.smallest_nonzero >= range.lowest) {
      add_pass<false>(x, range, exponent, sum);
      return num_non_finite;
    }
    add_pass<true>(x, range, exponent, sum);
    end = range.lowest;
  }
}

template <class T>
std::int64_t add_elements(const T* x, std::int64_t count, ExactSum& sum) {
  alignas(64) std::array<float, kBlock> block;
  std::int64_t num_non_finite = 0;
  for (std::int64_t first = 0; first < count; first += kBlock) {
    const std::int64_t here = std::min(kBlock, count - first);
    if constexpr (std::is_same_v<T, float>) {
      if (here == kBlock) {
        num_non_finite += add_block(x + first, sum);
        continue;
      }
    }
    std::transform(x + first, x + first + here, block.begin(),
                   [](T value) { return static_cast<float>(value); });
    std::fill(block.begin() + here, block.end(), 0.0F);
    num_non_finite += add_block(block.data(), sum);
  }
  return num_non_finite;
}

void sum_of_squares_cpu(const Tensor& x, Tensor& sum, Tensor& num_non_finite, Stream& stream) {
  ExactSum total = ExactSum::from_integers(sum.values<std::int64_t>());
  std::int64_t& num_bad = *num_non_finite.mutable_data<std::int64_t>();
  std::mutex mutex;
  stream.parallel_for(x.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    ExactSum part;
    const std::int64_t bad = x.dtype() == DType::kFloat32
                                 ? add_elements(x.data<float>() + begin, end - begin, part)
                                 : add_elements(x.data<BFloat16>() + begin, end - begin, part);
    const std::lock_guard lock(mutex);  // in any order: the sum is exact
    total.add(part);
    num_bad += bad;
  });
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

const KernelRegistration register_sum_of_squares(sum_of_squares_slot, DeviceType::kCpu,
                                                 sum_of_squares_cpu);
const KernelRegistration register_update_scale(update_scale_slot, DeviceType::kCpu,
                                               update_scale_cpu);

}  // namespace
}  // namespace fathom::kernels
