#include "core/cuda/check.h"
#include "core/error.h"
#include "kernels/cuda/binary_tree.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "parallel/comm/cuda/rank_tree.h"

namespace fathom::parallel::cuda {
namespace {

using kernels::cuda::BinaryTree;
using kernels::cuda::from_float;
using kernels::cuda::Sum;
using kernels::cuda::to_float;

constexpr int kThreads = 256;
constexpr int kMaxLevels = 16;

struct Maximum {
  __device__ __forceinline__ static float of(float x, float y) {
    return x > y || x != x ? x : y;  // a NaN on either side wins
  }
};

// An element a thread.
template <class T, class Op>
__global__ void __launch_bounds__(kThreads)
    reduce_elements(const T* contributions, int num_ranks, T* out, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) {
    return;
  }
  BinaryTree<Op, kMaxLevels> tree;
  for (int rank = 0; rank < num_ranks; ++rank) {
    tree.add(to_float(contributions[rank * count + i]));
  }
  out[i] = from_float<T>(tree.result());
}

template <class T, class Op>
void launch_reduction(const std::byte* contributions, int num_ranks, std::byte* out,
                      std::int64_t count, cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>((count + kThreads - 1) / kThreads));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  void (*const kernel)(const T*, int, T*, std::int64_t) = reduce_elements<T, Op>;
  check_cuda(cudaLaunchKernelEx(&config, kernel, reinterpret_cast<const T*>(contributions),
                                num_ranks, reinterpret_cast<T*>(out), count),
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
      launch_reduction<T, Sum>(contributions, num_ranks, out, count, stream);
    } else {
      launch_reduction<T, Maximum>(contributions, num_ranks, out, count, stream);
    }
  });
}

}  // namespace fathom::parallel::cuda
