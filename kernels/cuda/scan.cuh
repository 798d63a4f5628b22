#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/reduce.cuh"

namespace fathom::kernels::cuda {

// The sum of the values of this lane and of those before it.
template <class T>
__device__ __forceinline__ T inclusive_scan_warp(T value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const T before = __shfl_up_sync(kAllLanes, value, distance);
    value += lane >= distance ? before : T{0};
  }
  return value;
}

// The same of the threads of a block of kThreads; all must take part.
template <int kThreads, class T>
__device__ __forceinline__ T inclusive_scan_block(T value) {
  constexpr int kWarps = kThreads / kWarpSize;
  static_assert(kThreads % kWarpSize == 0 && kWarps <= kWarpSize);
  __shared__ T totals[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  value = inclusive_scan_warp(value);
  __syncthreads();  // the last call's totals have been read
  if (lane == kWarpSize - 1) {
    totals[warp] = value;
  }
  __syncthreads();
  T before = T{0};
  for (int i = 0; i < warp; ++i) {
    before += totals[i];
  }
  return before + value;
}

// Calls write(i, sum of read(j) for j < i) for every i below `count`; by one block of kThreads, all
// of which must take part. write(i) may change what read(i) gives.
template <int kThreads, class T, class Read, class Write>
__device__ __forceinline__ void exclusive_scan_by_block(std::int64_t count, const Read& read,
                                                        const Write& write) {
  __shared__ T end;
  T start = T{0};
  for (std::int64_t first = 0; first < count; first += kThreads) {
    const std::int64_t i = first + threadIdx.x;
    const T value = i < count ? read(i) : T{0};
    const T sum = inclusive_scan_block<kThreads>(value);
    if (i < count) {
      write(i, start + sum - value);
    }
    if (threadIdx.x == kThreads - 1) {
      end = start + sum;
    }
    __syncthreads();
    start = end;
  }
}

}  // namespace fathom::kernels::cuda
