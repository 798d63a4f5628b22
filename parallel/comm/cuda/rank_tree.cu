#include "core/cuda/check.h"
#include "core/error.h"
#include "kernels/cuda/device_tensor.cuh"
#include "parallel/comm/cuda/rank_tree.h"

namespace fathom::parallel::cuda {
namespace {

using kernels::cuda::from_float;
using kernels::cuda::to_float;

constexpr int kThreads = 256;
constexpr int kMaxLevels = 16;

struct Sum {
  __device__ __forceinline__ float operator()(float x, float y) const { return x + y; }
};
struct Maximum {
  __device__ __forceinline__ float operator()(float x, float y) const {
    return x > y || x != x ? x : y;  // a NaN on either side wins
  }
};

// An element a thread. Ranks are taken as a binary counter counts them: on each level at most one
// partial result waits for its neighbour. Loops over levels are unrolled, so that what waits stays
// in registers.
template <class T, class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_elements(const T* contributions, int num_ranks, T* out, std::int64_t count, Op op) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) {
    return;
  }
  float waiting[kMaxLevels] = {};
  for (int rank = 0; rank < num_ranks; ++rank) {
    float partial = to_float(contributions[rank * count + i]);
    const int merges = __ffs(~rank) - 1;  // trailing ones of its number
#pragma unroll
    for (int level = 0; level < kMaxLevels; ++level) {
      if (level < merges) {
        partial = op(waiting[level], partial);
      }
      if (level == merges) {
        waiting[level] = partial;
      }
    }
  }
  // What is left without a neighbour joins the level above.
  float result = 0.0F;
  bool has_result = false;
#pragma unroll
  for (int level = 0; level < kMaxLevels; ++level) {
    if ((num_ranks >> level & 1) != 0) {
      result = has_result ? op(waiting[level], result) : waiting[level];
      has_result = true;
    }
  }
  out[i] = from_float<T>(result);
}

template <class T, class Op>
void launch_reduction(const std::byte* contributions, int num_ranks, std::byte* out,
                      std::int64_t count, Op op, cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  void (*const kernel)(const T*, int, T*, std::int64_t, Op) = reduce_elements<T, Op>;
  check_cuda(cudaLaunchKernelEx(&config, kernel, reinterpret_cast<const T*>(contributions),
                                num_ranks, reinterpret_cast<T*>(out), count, op),
             "cudaLaunchKernelEx");
}

}  // namespace

void reduce_over_ranks(const std::byte* contributions, int num_ranks, std::byte* out,
                       std::int64_t count, DType dtype, ReduceOp op, cudaStream_t stream) {
  FATHOM_CHECK(0 < num_ranks && num_ranks < 1 << kMaxLevels, num_ranks, " ranks");
  if (count == 0) {
    return;
  }
  kernels::cuda::with_activation_type(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (op == ReduceOp::kSum) {
      launch_reduction<T>(contributions, num_ranks, out, count, Sum{}, stream);
    } else {
      launch_reduction<T>(contributions, num_ranks, out, count, Maximum{}, stream);
    }
  });
}

}  // namespace fathom::parallel::cuda
