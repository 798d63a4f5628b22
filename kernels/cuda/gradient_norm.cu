#include <algorithm>
#include <cmath>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/contribution.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/exact_sums.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/gradient_norm.h"

// Of sum_of_squares: the numbers of ExactSum, without a rounding on the way: who adds what does not
// show. A float32 is an integer of 24 bits times a power of two, its square one of 48 bits, and a
// double holds sums of squares exactly while all their bits fit into 53. So a thread adds squares
// in two doubles, one for the upper bits and one for the lower, that together hold those of
// elements within a window of magnitudes, and moves them to its integers when the window moves.
// Double arithmetic costs less than integers of 128 bits would: memory stays the limit.
namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 128;
constexpr int kBlocksAtOnce = 5;                                        // of a multiprocessor
constexpr std::int64_t kMaxBlocks = kBlocksAtOnce * std::int64_t{132};  // of a large GPU
constexpr int kGroup = 16;          // elements that a thread takes at once
constexpr int kGroupsOfWindow = 8;  // after which the doubles move to the integers

// Magnitudes are the bits of |x|: exponent and mantissa.
constexpr unsigned kAbsoluteMask = 0x7fffffffU;
constexpr unsigned kInfinity = 0x7f800000U;
constexpr int kFloatMantissaBits = 23;
constexpr int kFloatBias = 127;
constexpr unsigned magnitude_of_power(int exponent) {
  return static_cast<unsigned>(exponent + kFloatBias) << kFloatMantissaBits;
}
// ExactSum takes squares below 2^128 and drops their bits below 2^-192.
constexpr unsigned kTooLarge = magnitude_of_power(64);
constexpr unsigned kWhole = magnitude_of_power(-73);    // squares have no bits below 2^-192
constexpr unsigned kNothing = magnitude_of_power(-96);  // squares have no others

// Exponents of a window [T - 22, T]. Squares are below 2^(2T + 2) and multiples of 2^(2T - 90).
// Their upper parts are multiples of the unit u = 2^(2T - 44), their lower parts at most u / 2, and
// 128 of each stay below 2^53 times what they are multiples of.
constexpr int kWindow = 23;
constexpr int kUnitBelowTop = 44;
constexpr int kHeadroom = 2;  // exponents of a window above its first elements
static_assert(kGroup * kGroupsOfWindow == 128);

__device__ __forceinline__ unsigned magnitude(float x) {
  return __float_as_uint(x) & kAbsoluteMask;
}

class Squares {
 public:
  __device__ __forceinline__ void add(const float (&x)[kGroup]) {
    unsigned end = kAbsoluteMask + 1;  // smaller ones are left
    for (;;) {
      const unsigned largest = largest_below(x, end);
      if (largest < kNothing) {
        return;
      }
      if (largest < kWhole) {
        add_cut(x);
        return;
      }
      if (largest >= kTooLarge) {
        count_too_large(x);
        end = kTooLarge;
        continue;
      }
      if (largest < lowest_ || largest >= end_) {
        open_window(largest);
      }
      add_window(x, min(end, end_));
      end = lowest_;
    }
  }
  // After kGroupsOfWindow groups at most.
  __device__ __forceinline__ void move_to_integers() {
    found_.add(high_);
    found_.add(low_);
    high_ = 0.0;
    low_ = 0.0;
  }

  // Adds those of all threads of the block, which must all take part.
  __device__ __forceinline__ void add_block(std::int64_t* sum, std::int64_t* num_non_finite) {
    move_to_integers();
#pragma unroll
    for (int i = 0; i < kExactSumIntegers; ++i) {
      found_.numbers[i] = reduce_block<Sum, kThreads>(found_.numbers[i], std::int64_t{0});
    }
    num_non_finite_ = reduce_block<Sum, kThreads>(num_non_finite_, 0U);
    if (threadIdx.x != 0) {
      return;
    }
    propagate_carries(found_.numbers);  // so that those of all blocks do not overflow
#pragma unroll
    for (int i = 0; i < kExactSumIntegers; ++i) {
      if (found_.numbers[i] != 0) {
        add_atomically(sum + i, found_.numbers[i]);
      }
    }
    if (num_non_finite_ != 0) {
      add_atomically(num_non_finite, num_non_finite_);
    }
  }

 private:
  __device__ __forceinline__ static unsigned largest_below(const float (&x)[kGroup], unsigned end) {
    unsigned largest = 0;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const unsigned here = magnitude(x[i]);
      largest = max(largest, here < end ? here : 0U);
    }
    return largest;
  }

  __device__ __forceinline__ void open_window(unsigned largest) {
    move_to_integers();
    constexpr int kLast = static_cast<int>(kTooLarge >> kFloatMantissaBits) - 1;
    constexpr int kFirst = static_cast<int>(kWhole >> kFloatMantissaBits);
    const int top = min(static_cast<int>(largest >> kFloatMantissaBits) + kHeadroom, kLast);
    end_ = static_cast<unsigned>(top + 1) << kFloatMantissaBits;
    lowest_ = static_cast<unsigned>(max(top - kWindow + 1, kFirst)) << kFloatMantissaBits;
    // 1.5 * 2^52 units: a double near it is rounded to whole ones.
    const int exponent = 2 * (top - kFloatBias) - kUnitBelowTop + kMantissaBits;
    rounder_ =
        __longlong_as_double(static_cast<long long>(exponent + kExponentBias) << kMantissaBits |
                             1LL << (kMantissaBits - 1));
  }

  // Those in the window and below `end`.
  __device__ __forceinline__ void add_window(const float (&x)[kGroup], unsigned end) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const double y = magnitude(x[i]) - lowest_ < end - lowest_ ? x[i] : 0.0F;
      const double upper = fma(y, y, rounder_) - rounder_;
      high_ += upper;
      low_ += fma(y, y, -upper);
    }
  }

  // Those of whose squares ExactSum drops bits.
  __device__ __forceinline__ void add_cut(const float (&x)[kGroup]) {
    constexpr unsigned kImplicitBit = 1U << kFloatMantissaBits;
    std::uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const unsigned here = magnitude(x[i]);
      if (here >= kNothing && here < kWhole) {
        const std::uint64_t integer = (here & (kImplicitBit - 1)) | kImplicitBit;
        const unsigned dropped =
            2 * ((kWhole >> kFloatMantissaBits) - (here >> kFloatMantissaBits));
        sum += integer * integer >> dropped;
      }
    }
    found_.numbers[0] += static_cast<std::int64_t>(sum & 0xffffffffU);
    found_.numbers[1] += static_cast<std::int64_t>(sum >> kLimbBits);
  }

  __device__ __forceinline__ void count_too_large(const float (&x)[kGroup]) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const unsigned here = magnitude(x[i]);
      num_non_finite_ += here >= kInfinity ? 1 : 0;
      found_.numbers[kLimbs] += here >= kTooLarge && here < kInfinity ? 1 : 0;
    }
  }

  Found found_;
  double high_ = 0.0;
  double low_ = 0.0;
  double rounder_ = 0.0;
  unsigned lowest_ = 0;
  unsigned end_ = 0;
  unsigned num_non_finite_ = 0;
};

// N neighbours, those from `count` on as zeros.
template <int N, class T>
__device__ __forceinline__ void load_below(const T* x, std::int64_t first, std::int64_t count,
                                           float* values) {
  if (first + N <= count) {
    load_floats<N>(x + first, *reinterpret_cast<float(*)[N]>(values));
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = first + i < count ? to_float(x[first + i]) : 0.0F;
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    add_squares(const T* x, std::int64_t count, std::int64_t* sum, std::int64_t* num_non_finite) {
  constexpr std::int64_t kPacks = kGroup / N;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads * N;  // from pack to pack
  Squares squares;
  int num_groups = 0;
  for (std::int64_t first = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * N; first < count;
       first += kPacks * stride) {
    float values[kGroup];
#pragma unroll
    for (int pack = 0; pack < kPacks; ++pack) {
      load_below<N>(x, first + pack * stride, count, values + pack * N);
    }
    squares.add(values);
    if (++num_groups % kGroupsOfWindow == 0) {
      squares.move_to_integers();
    }
  }
  squares.add_block(sum, num_non_finite);
}

// A warp, of which one thread works.
__global__ void __launch_bounds__(kWarpSize) normalize(std::int64_t* sum) {
  if (threadIdx.x == 0) {
    propagate_carries(sum);
  }
}

void sum_of_squares_cuda(const Tensor& x, Tensor& sum, Tensor& num_non_finite, Stream& stream) {
  const std::int64_t count = x.numel();
  if (count == 0) {
    return;
  }
  auto* const numbers = device_data<std::int64_t>(sum);
  const std::int64_t num_blocks =
      std::min(kMaxBlocks, blocks_for(count, kThreads * kGroup * kGroupsOfWindow));
  with_activation_type(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool is_aligned = fits_packs<T>(0, {x.raw()});
    launch(is_aligned ? add_squares<T, kPackSize<T>> : add_squares<T, 1>, {num_blocks, kThreads},
           stream, device_data<T>(x), count, numbers, device_data<std::int64_t>(num_non_finite));
  });
  launch(normalize, {1, kWarpSize}, stream, numbers);
}

// A sum that is not negative; rounded a few times.
__device__ double positive_value(const std::int64_t* sum) {
  std::int64_t limbs[kLimbs];
#pragma unroll
  for (int i = 0; i < kLimbs; ++i) {
    limbs[i] = sum[i];
  }
  propagate_carries(limbs);
  double value = 0.0;
  double unit = 0x1p-192;
#pragma unroll
  for (int i = 0; i < kLimbs; ++i) {
    value += static_cast<double>(limbs[i]) * unit;
    unit *= 0x1p32;
  }
  return value;
}

// A warp, of which one thread works.
__global__ void __launch_bounds__(kWarpSize)
    decide(const std::int64_t* sums, int num_sums, const std::int64_t* counters, int num_counters,
           double max_norm, float* scale) {
  if (threadIdx.x != 0) {
    return;
  }
  bool is_finite = true;
  for (int i = 0; i < num_sums; ++i) {
    is_finite = is_finite && sums[i * kExactSumIntegers + kLimbs] == 0;
  }
  for (int i = 0; i < num_counters; ++i) {
    is_finite = is_finite && counters[i] == 0;
  }
  const double norm = sqrt(positive_value(sums));
  const double factor = max_norm > 0.0 && norm > max_norm ? max_norm / norm : 1.0;
  *scale = is_finite ? static_cast<float>(factor) : __uint_as_float(0x7fffffffU);
}

void update_scale_cuda(const Tensor& sums, const Tensor& counters, double max_norm, Tensor& scale,
                       Stream& stream) {
  launch(decide, {1, kWarpSize}, stream, device_data<std::int64_t>(sums),
         static_cast<int>(sums.size(0)), device_data<std::int64_t>(counters),
         static_cast<int>(counters.numel()), max_norm, device_data<float>(scale));
}

const KernelRegistration register_sum_of_squares(sum_of_squares_slot, DeviceType::kCuda,
                                                 sum_of_squares_cuda);
const KernelRegistration register_update_scale(update_scale_slot, DeviceType::kCuda,
                                               update_scale_cuda);

}  // namespace
}  // namespace fathom::kernels
