#include <cmath>

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

const KernelRegistration register_add(add_exactly_slot, DeviceType::kCuda, add_exactly_cuda);
const KernelRegistration register_scale(update_scale_slot, DeviceType::kCuda, update_scale_cuda);

}  // namespace
}  // namespace fathom::kernels
