#pragma once

#include <cuda_runtime.h>

namespace fathom::kernels::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kAllLanes = 0xffffffffU;

struct Sum {
  template <class T>
  __device__ static T of(T a, T b) {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ static T of(T a, T b) {
    return a < b ? b : a;
  }
};

// Over the lanes of a warp, in one fixed tree; all lanes get the result.
template <class Op, class T>
__device__ __forceinline__ T reduce_warp(T value) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value = Op::of(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

// Over the threads of a block of kThreads, in one fixed tree; all threads get the result and must
// take part. `identity` leaves every value as it is.
template <class Op, int kThreads, class T>
__device__ __forceinline__ T reduce_block(T value, T identity) {
  constexpr int kWarps = kThreads / kWarpSize;
  static_assert(kThreads % kWarpSize == 0 && kWarps <= kWarpSize);
  __shared__ T partial[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  value = reduce_warp<Op>(value);
  __syncthreads();  // the last call's results have been read
  if (lane == 0) {
    partial[warp] = value;
  }
  __syncthreads();
  return reduce_warp<Op>(lane < kWarps ? partial[lane] : identity);
}

}  // namespace fathom::kernels::cuda
