#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/adamw.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/exact_sums.cuh"
#include "kernels/cuda/reduce.cuh"

// Which thread adds what depends on n alone: threads go over the elements in strides, a block adds
// its threads' sums in a fixed tree, one block those of all blocks. In double throughout; a square
// of a float32 is exact there.
namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 2048;

struct Result {
  double sum;
  std::int64_t num_non_finite;
};

__device__ __forceinline__ void add_square(float x, Result& result) {
  constexpr unsigned kAbsoluteMask = 0x7fffffffU;
  constexpr unsigned kInfinity = 0x7f800000U;
  if ((__float_as_uint(x) & kAbsoluteMask) < kInfinity) {
    result.sum += double{x} * double{x};
  } else {
    ++result.num_non_finite;
  }
}

__device__ __forceinline__ Result reduced(const Result& result) {
  return {reduce_block<Sum, kThreads>(result.sum, 0.0),
          reduce_block<Sum, kThreads>(result.num_non_finite, std::int64_t{0})};
}

// partial[b] is what the threads of block b have found.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    add_squares(const T* x, std::int64_t count, Result* partial) {
  const std::int64_t thread = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t num_threads = std::int64_t{gridDim.x} * kThreads;
  const std::int64_t num_packs = count / N;
  Result result{};
#pragma unroll 4
  for (std::int64_t pack = thread; pack < num_packs; pack += num_threads) {
    float values[N];
    load_floats<N>(x + pack * N, values);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      add_square(values[i], result);
    }
  }
  if (num_packs * N + thread < count) {  // what no pack holds
    add_square(to_float(x[num_packs * N + thread]), result);
  }
  result = reduced(result);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = result;
  }
}

__global__ void __launch_bounds__(kThreads)
    add_partial_sums(const Result* partial, int count, std::int64_t* sum,
                     std::int64_t* num_non_finite) {
  Result result{};
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    result.sum += partial[i].sum;
    result.num_non_finite += partial[i].num_non_finite;
  }
  result = reduced(result);
  if (threadIdx.x == 0) {
    add_term(result.sum, [sum](int number, std::int64_t value) { sum[number] += value; });
    propagate_carries(sum);
    *num_non_finite += result.num_non_finite;
  }
}

void sum_of_squares_cuda(const Tensor& x, Tensor& sum, Tensor& num_non_finite, Stream& stream) {
  const std::int64_t count = x.numel();
  if (count == 0) {
    return;
  }
  constexpr std::int64_t kNumbers = sizeof(Result) / sizeof(std::int64_t);
  constexpr std::int64_t kElementsOfBlock = kThreads * std::int64_t{16};
  const std::int64_t num_blocks = std::min(kMaxBlocks, blocks_for(count, kElementsOfBlock));
  Tensor partial = Tensor::empty(Shape{num_blocks, kNumbers}, DType::kInt64, stream);
  auto* const partials = reinterpret_cast<Result*>(partial.raw());
  with_activation_type(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool is_aligned = fits_packs<T>(0, {x.raw()});
    launch(is_aligned ? add_squares<T, kPackSize<T>> : add_squares<T, 1>, {num_blocks, kThreads},
           stream, device_data<T>(x), count, partials);
  });
  launch(add_partial_sums, {1, kThreads}, stream, partials, num_blocks,
         device_data<std::int64_t>(sum), device_data<std::int64_t>(num_non_finite));
}

const KernelRegistration register_sum_of_squares(sum_of_squares_slot, DeviceType::kCuda,
                                                 sum_of_squares_cuda);

}  // namespace
}  // namespace fathom::kernels
