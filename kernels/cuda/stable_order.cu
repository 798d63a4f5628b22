#include <algorithm>
#include <utility>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/cuda/stable_order.h"

namespace fathom::kernels::cuda {
namespace {

// Tiles of elements are counted by bin, the counts are scanned, and each tile puts its elements
// behind those of the tiles before it, in order. No element is placed by an atomic.
constexpr int kWarps = 8;  // of a block
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kSteps = 8;  // in which a warp takes its elements, 32 at a time
constexpr int kWarpElements = kSteps * kWarpSize;
constexpr int kTile = kWarps * kWarpElements;

struct Sort {
  SortIntoBins given;
  SortedIntoBins sorted;
  std::int32_t* tile_counts;  // [num_bins, num_tiles]; after the scan those of the tiles before
  std::int64_t num_tiles;

  __device__ __forceinline__ std::int32_t element(std::int64_t i) const {
    return given.elements == nullptr ? static_cast<std::int32_t>(i) : given.elements[i];
  }
  __device__ __forceinline__ int bin_of(std::int32_t element) const {
    const auto key = static_cast<std::uint32_t>(given.keys[element]);
    const auto last = static_cast<std::uint32_t>(given.num_bins - 1);
    return static_cast<int>(min((key >> given.shift) & given.mask, last));
  }
};

// This thread's place in its step, among those before the sort.
__device__ __forceinline__ std::int64_t place_of_step(int step) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  return std::int64_t{blockIdx.x} * kTile + warp * kWarpElements + step * kWarpSize +
         threadIdx.x % kWarpSize;
}

__global__ void __launch_bounds__(kThreads) count_tiles(Sort sort) {
  __shared__ int counts[kMaxSortBins];
  for (int bin = static_cast<int>(threadIdx.x); bin < sort.given.num_bins; bin += kThreads) {
    counts[bin] = 0;
  }
  __syncthreads();
  for (int step = 0; step < kSteps; ++step) {
    const std::int64_t place = place_of_step(step);
    if (place < sort.given.count) {
      atomicAdd(&counts[sort.bin_of(sort.element(place))], 1);
    }
  }
  __syncthreads();
  for (int bin = static_cast<int>(threadIdx.x); bin < sort.given.num_bins; bin += kThreads) {
    sort.tile_counts[bin * sort.num_tiles + blockIdx.x] = counts[bin];
  }
}

// A warp a bin: its counts become the sums of those of the tiles before.
__global__ void __launch_bounds__(kThreads) scan_tiles(Sort sort) {
  const int bin = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  if (bin >= sort.given.num_bins) {
    return;
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  int total = 0;
  for (std::int64_t first = 0; first < sort.num_tiles; first += kWarpSize) {
    const std::int64_t tile = first + lane;
    std::int32_t* place = sort.tile_counts + bin * sort.num_tiles + tile;
    const int count = tile < sort.num_tiles ? *place : 0;
    const int sum = inclusive_scan_warp(count);
    if (tile < sort.num_tiles) {
      *place = total + sum - count;
    }
    total += __shfl_sync(kAllLanes, sum, kWarpSize - 1);
  }
  if (lane == 0) {
    sort.sorted.counts[bin] = total;
  }
}

using NextPlaces = int[kWarps][kMaxSortBins];

// next[warp][bin], the warp's number of elements of the bin on entry, becomes the place of the
// first of them.
__device__ void scan_warps(const Sort& sort, NextPlaces& next) {
  constexpr int kPerThread = kMaxSortBins / kThreads;
  const int first = static_cast<int>(threadIdx.x) * kPerThread;
  int counts[kPerThread];
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    counts[i] =
        first + i < sort.given.num_bins ? static_cast<int>(sort.sorted.counts[first + i]) : 0;
    sum += counts[i];
  }
  int first_place = inclusive_scan_block<kThreads>(sum) - sum;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int bin = first + i;
    if (bin < sort.given.num_bins) {
      int place = first_place + sort.tile_counts[bin * sort.num_tiles + blockIdx.x];
      for (int warp = 0; warp < kWarps; ++warp) {
        const int count = next[warp][bin];
        next[warp][bin] = place;
        place += count;
      }
    }
    first_place += counts[i];
  }
}

__global__ void __launch_bounds__(kThreads) place_elements(Sort sort) {
  __shared__ NextPlaces next;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int i = static_cast<int>(threadIdx.x); i < kWarps * kMaxSortBins; i += kThreads) {
    (&next[0][0])[i] = 0;
  }
  __syncthreads();
  int bins[kSteps];  // -1 beyond the last element
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const std::int64_t place = place_of_step(step);
    bins[step] = place < sort.given.count ? sort.bin_of(sort.element(place)) : -1;
    if (bins[step] >= 0) {
      atomicAdd(&next[warp][bins[step]], 1);
    }
  }
  __syncthreads();
  scan_warps(sort, next);
  __syncthreads();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int bin = bins[step];
    const unsigned peers = __match_any_sync(kAllLanes, bin);
    const int num_before = __popc(peers & ((1U << lane) - 1));
    int place = 0;
    if (bin >= 0) {
      place = next[warp][bin] + num_before;
      const std::int32_t element = sort.element(place_of_step(step));
      sort.sorted.element_at[place] = element;
      if (sort.sorted.place_of != nullptr) {
        sort.sorted.place_of[element] = place;
      }
    }
    __syncwarp();
    if (bin >= 0 && num_before == 0) {
      next[warp][bin] = place + __popc(peers);
    }
    __syncwarp();
  }
}

}  // namespace

void sort_into_bins(const SortIntoBins& given, const SortedIntoBins& sorted, Stream& stream) {
  FATHOM_CHECK(given.num_bins > 0 && given.num_bins <= kMaxSortBins, given.num_bins, " bins");
  const std::int64_t num_tiles = blocks_for(given.count, kTile);
  Tensor tile_counts = Tensor::empty(Shape{given.num_bins, std::max<std::int64_t>(num_tiles, 1)},
                                     DType::kInt32, stream);
  const Sort sort{given, sorted, device_data<std::int32_t>(tile_counts), num_tiles};
  launch(count_tiles, {num_tiles, kThreads}, stream, sort);
  launch(scan_tiles, {blocks_for(given.num_bins, kWarps), kThreads}, stream, sort);
  launch(place_elements, {num_tiles, kThreads}, stream, sort);
}

Tensor stable_order(const Tensor& keys, std::int64_t num_keys, Stream& stream) {
  constexpr int kDigitBits = 10;
  static_assert(1 << kDigitBits == kMaxSortBins);
  const std::int64_t count = keys.numel();
  FATHOM_CHECK(count < (std::int64_t{1} << 31) && num_keys <= (std::int64_t{1} << 31), count,
               " elements of ", num_keys, " keys");
  Tensor order = Tensor::empty(keys.shape(), DType::kInt32, stream);
  Tensor other = Tensor::empty(keys.shape(), DType::kInt32, stream);
  Tensor counts = Tensor::empty({kMaxSortBins}, DType::kInt64, stream);
  SortIntoBins pass{
      device_data<std::int32_t>(keys), nullptr, count, 0, kMaxSortBins - 1, kMaxSortBins};
  do {
    sort_into_bins(pass,
                   {device_data<std::int64_t>(counts), device_data<std::int32_t>(other), nullptr},
                   stream);
    std::swap(order, other);
    pass.elements = device_data<std::int32_t>(static_cast<const Tensor&>(order));
    pass.shift += kDigitBits;
  } while (num_keys > std::int64_t{1} << pass.shift);
  return order;
}

}  // namespace fathom::kernels::cuda
