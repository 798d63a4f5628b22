#include <utility>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/cuda/stable_order.h"

namespace fathom::kernels::cuda {
namespace {

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kThreads = kDigits;  // one a digit where digits are counted
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kRounds = 8;
constexpr std::int64_t kTile = std::int64_t{kThreads} * kRounds;  // elements of a block

// The elements of a pass: in the order of the passes before, null at first.
struct Pass {
  const std::int32_t* keys;
  const std::int32_t* order;
  std::int64_t count;
  int shift;  // of the digit

  __device__ __forceinline__ std::int32_t element(std::int64_t i) const {
    return order == nullptr ? static_cast<std::int32_t>(i) : order[i];
  }
  __device__ __forceinline__ int digit_of(std::int32_t element) const {
    return (keys[element] >> shift) & (kDigits - 1);
  }
};

// counts[digit, block] = how many elements of the block's tile have the digit.
__global__ void __launch_bounds__(kThreads) count_digits(Pass pass, std::int32_t* counts) {
  __shared__ std::int32_t of_digit[kDigits];
  const int thread = static_cast<int>(threadIdx.x);
  of_digit[thread] = 0;
  __syncthreads();
  for (int round = 0; round < kRounds; ++round) {
    const std::int64_t i = blockIdx.x * kTile + round * kThreads + thread;
    if (i < pass.count) {
      atomicAdd(&of_digit[pass.digit_of(pass.element(i))], 1);
    }
  }
  __syncthreads();
  counts[std::int64_t{gridDim.x} * thread + blockIdx.x] = of_digit[thread];
}

// Each count becomes the sum of those before it.
__global__ void __launch_bounds__(kThreads) sum_before(std::int32_t* counts, std::int64_t count) {
  exclusive_scan_by_block<kThreads, std::int32_t>(
      count, [=](std::int64_t i) { return counts[i]; },
      [=](std::int64_t i, std::int32_t sum) { counts[i] = sum; });
}

// Puts every element where its digit's elements of this tile start, those of this tile before it
// first.
__global__ void __launch_bounds__(kThreads)
    scatter(Pass pass, const std::int32_t* starts, std::int32_t* order) {
  __shared__ std::int32_t next[kDigits];            // place of the digit's next element
  __shared__ std::int32_t places[kWarps][kDigits];  // counts of a warp, then their places
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpSize;
  const int warp = thread / kWarpSize;
  next[thread] = starts[std::int64_t{gridDim.x} * thread + blockIdx.x];
  for (int round = 0; round < kRounds; ++round) {
    for (int w = 0; w < kWarps; ++w) {
      places[w][thread] = 0;
    }
    __syncthreads();
    const std::int64_t i = blockIdx.x * kTile + round * kThreads + thread;
    const bool is_element = i < pass.count;
    const std::int32_t element = is_element ? pass.element(i) : 0;
    const int digit = is_element ? pass.digit_of(element) : kDigits;
    const unsigned same = __match_any_sync(kAllLanes, digit);
    const int rank = __popc(same & ((1U << lane) - 1));
    if (is_element && rank == 0) {
      places[warp][digit] = __popc(same);
    }
    __syncthreads();
    std::int32_t place = next[thread];  // this thread is the digit's
    for (int w = 0; w < kWarps; ++w) {
      const std::int32_t in_warp = places[w][thread];
      places[w][thread] = place;
      place += in_warp;
    }
    next[thread] = place;
    __syncthreads();
    if (is_element) {
      order[places[warp][digit] + rank] = element;
    }
    __syncthreads();
  }
}

}  // namespace

Tensor stable_order(const Tensor& keys, std::int64_t num_keys, Stream& stream) {
  const std::int64_t count = keys.numel();
  FATHOM_CHECK(count < (std::int64_t{1} << 31) && num_keys <= (std::int64_t{1} << 31), count,
               " elements of ", num_keys, " keys");
  const std::int64_t num_blocks = blocks_for(count, kTile);
  Tensor order = Tensor::empty(keys.shape(), DType::kInt32, stream);
  Tensor other = Tensor::empty(keys.shape(), DType::kInt32, stream);
  Tensor counts = Tensor::empty({kDigits, num_blocks}, DType::kInt32, stream);
  auto* const starts = device_data<std::int32_t>(counts);
  Pass pass{device_data<std::int32_t>(keys), nullptr, count, 0};
  do {
    launch(count_digits, {num_blocks, kThreads}, stream, pass, starts);
    launch(sum_before, {count > 0 ? 1 : 0, kThreads}, stream, starts, counts.numel());
    launch(scatter, {num_blocks, kThreads}, stream, pass, static_cast<const std::int32_t*>(starts),
           device_data<std::int32_t>(other));
    std::swap(order, other);
    pass.order = device_data<std::int32_t>(static_cast<const Tensor&>(order));
    pass.shift += kDigitBits;
  } while (num_keys > std::int64_t{1} << pass.shift);
  return order;
}

}  // namespace fathom::kernels::cuda
