#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/simd.h"
#include "kernels/gradient_sum.h"

// How CPU kernels add contributions to a GradientSum.
namespace fathom::kernels::cpu {

// A vector of contributions becomes integers in two parts of at most 31 bits, high * 2^31 + low,
// each of them exact in float32, since AVX2 converts floats to 32-bit integers only.
class Quantizer {
 public:
  // Takes numbers below `limit` in absolute value, at most 2^(62 - fraction_bits).
  Quantizer(int fraction_bits, float limit)
      : limit_(limit), high_scale_(static_cast<float>(std::ldexp(1.0, fraction_bits - kLowBits))) {}

  // sum[i] += x[i] for the lanes of the block. Returns how many were refused.
  template <class Extent>
  HWY_INLINE std::int64_t add(const simd::Floats& x, std::int64_t* sum, Extent extent) const {
    std::int64_t refused = 0;
    for (int i = 0; i < simd::kParts; ++i) {
      refused += add_part(x.part[i], sum + i * simd::kVectorLanes,
                          lanes_of(extent) - i * simd::kVectorLanes);
    }
    return refused;
  }
  // sum[i] += x[i] for i in [0, count).
  HWY_INLINE std::int64_t add(const float* x, std::int64_t count, std::int64_t* sum) const {
    std::int64_t refused = 0;
    simd::for_each_block(count, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
      refused += add(simd::load(x + i, extent), sum + i, extent);
    });
    return refused;
  }

 private:
  static constexpr int kLowBits = 31;
  using Wide = simd::hn::RepartitionToWide<simd::IntTag>;  // int64, half as many lanes

  static int lanes_of(simd::WholeBlock) { return simd::kLanes; }
  static int lanes_of(simd::PartBlock block) { return block.count; }

  HWY_INLINE std::int64_t add_part(simd::Vector x, std::int64_t* sum, int count) const {
    namespace hn = simd::hn;
    const simd::Tag d;
    const auto is_taken = hn::Lt(hn::Abs(x), hn::Set(d, limit_));
    std::int64_t refused = 0;
    if (HWY_UNLIKELY(!hn::AllTrue(d, is_taken))) {
      refused = simd::kVectorLanes - static_cast<std::int64_t>(hn::CountTrue(d, is_taken));
      x = hn::IfThenElseZero(is_taken, x);
    }
    // high is rounded to nearest, so that low lies in [-2^30, 2^30]. Neither difference nor
    // product rounds: all have the mantissa of x or less of it.
    const auto scaled = hn::Mul(x, hn::Set(d, high_scale_));
    const auto high = hn::NearestInt(scaled);
    const auto rest = hn::Sub(scaled, hn::ConvertTo(d, high));
    const auto low = hn::NearestInt(hn::Mul(rest, hn::Set(d, 0x1p31F)));
    const Wide wide;
    const hn::Half<simd::IntTag> half;
    const auto first = join(hn::PromoteTo(wide, hn::LowerHalf(half, high)),
                            hn::PromoteTo(wide, hn::LowerHalf(half, low)));
    const auto second = join(hn::PromoteTo(wide, hn::UpperHalf(half, high)),
                             hn::PromoteTo(wide, hn::UpperHalf(half, low)));
    if (HWY_LIKELY(count >= simd::kVectorLanes)) {
      constexpr int kHalf = simd::kVectorLanes / 2;
      hn::StoreU(hn::Add(hn::LoadU(wide, sum), first), wide, sum);
      hn::StoreU(hn::Add(hn::LoadU(wide, sum + kHalf), second), wide, sum + kHalf);
      return refused;
    }
    alignas(64) std::int64_t terms[simd::kVectorLanes];
    hn::StoreU(first, wide, terms);
    hn::StoreU(second, wide, terms + simd::kVectorLanes / 2);
    for (int i = 0; i < count; ++i) {
      sum[i] += terms[i];
    }
    return refused;
  }
  template <class V>
  static HWY_INLINE V join(V high, V low) {
    return simd::hn::Add(simd::hn::ShiftLeft<kLowBits>(high), low);
  }

  float limit_;
  float high_scale_;  // 2^(fraction_bits - 31)
};

// Threads add what they refused.
inline void count_refused(GradientSum& gradient, std::int64_t refused) {
  if (refused != 0) {
    std::atomic_ref<std::int64_t>(*gradient.num_refused.mutable_data<std::int64_t>())
        .fetch_add(refused, std::memory_order_relaxed);
  }
}

// Adds floats from memory or registers to a sum of either kind, on one thread.
class ContributionSink {
 public:
  explicit ContributionSink(GradientSum& gradient)
      : gradient_(&gradient),
        quantizer_(gradient.fraction_bits, gradient.limit),
        floats_(gradient.sum.dtype() == DType::kFloat32 ? gradient.sum.mutable_data<float>()
                                                        : nullptr),
        integers_(floats_ == nullptr ? gradient.sum.mutable_data<std::int64_t>() : nullptr) {}
  ContributionSink(const ContributionSink&) = delete;
  ContributionSink& operator=(const ContributionSink&) = delete;
  ~ContributionSink() { count_refused(*gradient_, refused_); }

  // Zeroes elements from `first` on if the sum is empty: before their first contribution of a call.
  void begin(std::int64_t first, std::int64_t count) {
    if (!gradient_->is_empty) {
      return;
    }
    if (integers_ != nullptr) {
      std::fill_n(integers_ + first, count, 0);
    } else {
      std::fill_n(floats_ + first, count, 0.0F);
    }
  }
  // Adds to elements from `first` of the sum.
  template <class Extent>
  HWY_INLINE void add(const simd::Floats& x, std::int64_t first, Extent extent) {
    if (integers_ != nullptr) {
      refused_ += quantizer_.add(x, integers_ + first, extent);
    } else {
      simd::store(simd::load(floats_ + first, extent) + x, floats_ + first, extent);
    }
  }
  HWY_INLINE void add(const float* x, std::int64_t first, std::int64_t count) {
    simd::for_each_block(count, [&](std::int64_t i, auto extent) FATHOM_INLINE_LAMBDA {
      add(simd::load(x + i, extent), first + i, extent);
    });
  }

 private:
  GradientSum* gradient_;
  Quantizer quantizer_;
  float* floats_;
  std::int64_t* integers_;
  std::int64_t refused_ = 0;
};

}  // namespace fathom::kernels::cpu
