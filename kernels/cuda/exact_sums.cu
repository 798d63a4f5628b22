#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/exact_sums.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/exact_sums.h"

// Integers are added in any order: the sums do not depend on which thread was first.
namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

__device__ __forceinline__ double to_double(float x) { return double{x}; }
__device__ __forceinline__ double to_double(std::int64_t bits) {
  return __longlong_as_double(bits);
}

// One block: a step adds the losses of some thousand tokens.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_all(const T* x, std::int64_t first, std::int64_t stride, std::int64_t count,
            std::int64_t* sum) {
  Found found;
#pragma unroll 4
  for (std::int64_t i = first + std::int64_t{threadIdx.x} * stride; i < count;
       i += kThreads * stride) {
    found.add_term(to_double(x[i]));
  }
#pragma unroll
  for (int i = 0; i < kExactSumIntegers; ++i) {
    found.numbers[i] = reduce_block<Sum, kThreads>(found.numbers[i], std::int64_t{0});
  }
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < kExactSumIntegers; ++i) {
      found.numbers[i] += sum[i];
    }
    propagate_carries(found.numbers);
#pragma unroll
    for (int i = 0; i < kExactSumIntegers; ++i) {
      sum[i] = found.numbers[i];
    }
  }
}

void add_exactly_cuda(const Tensor& x, std::int64_t first, std::int64_t stride, Tensor& sum,
                      Stream& stream) {
  auto* const numbers = device_data<std::int64_t>(sum);
  if (x.dtype() == DType::kInt64) {
    launch(add_all<std::int64_t>, {1, kThreads}, stream, device_data<std::int64_t>(x), first,
           stride, x.numel(), numbers);
  } else {
    launch(add_all<float>, {1, kThreads}, stream, device_data<float>(x), first, stride, x.numel(),
           numbers);
  }
}

const KernelRegistration register_add(add_exactly_slot, DeviceType::kCuda, add_exactly_cuda);

}  // namespace
}  // namespace fathom::kernels
