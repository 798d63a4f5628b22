#include <algorithm>
#include <cmath>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/gradient_sum.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    round_range(const std::int64_t* sum, float unit, float* value, std::int64_t first,
                std::int64_t last) {
  const std::int64_t i = first + std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const float rounded = i < last ? static_cast<float>(sum[i]) * unit : 0.0F;
  __syncthreads();  // the first range is written over what its block has read
  if (i < last) {
    value[i] = rounded;
  }
}

// In place, a float32 lands on an int64 of half its index: what is read must not have been written
// over. One block goes ahead; then [n, 2n) is written to where [n / 2, n) was, so that blocks may
// share it.
void round_gradient_cuda(const Tensor& sum, int fraction_bits, Tensor& value, Stream& stream) {
  const auto unit = static_cast<float>(std::ldexp(1.0, -fraction_bits));
  const std::int64_t count = sum.numel();
  std::int64_t first = 0;
  while (first < count) {
    const std::int64_t last = std::min(count, std::max<std::int64_t>(2 * first, kThreads));
    launch(round_range, {blocks_for(last - first, kThreads), kThreads}, stream,
           device_data<std::int64_t>(sum), unit, device_data<float>(value), first, last);
    first = last;
  }
}

const KernelRegistration register_round(round_gradient_slot, DeviceType::kCuda,
                                        &round_gradient_cuda);

}  // namespace
}  // namespace fathom::kernels
