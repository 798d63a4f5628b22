#include "core/cuda/launch.cuh"
#include "core/normal_distribution.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/philox.cuh"
#include "kernels/fill_normal.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

struct Numbers {
  uint2 key;
  std::uint64_t first;
  std::uint64_t row_stride;
  float deviation;

  // RandomSource::normal times the deviation. This file is compiled without contraction to fused
  // operations (CMakeLists.txt).
  __device__ __forceinline__ float at(std::uint64_t row, std::uint64_t column) const {
    const double u = uniform_of(random_bits(key, first + row * row_stride + column));
    return deviation * static_cast<float>(inverse_normal_distribution(u));
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    fill_elements(Numbers numbers, T* x, std::int64_t count, std::int64_t num_columns) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) {
    const std::int64_t row = i / num_columns;
    x[i] = from_float<T>(numbers.at(row, i - row * num_columns));
  }
}

void fill_normal_cuda(const NormalNumbers& numbers, Tensor& x, Stream& stream) {
  const auto key = numbers.random.key();
  with_activation_type(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(
        fill_elements<T>, {blocks_for(x.numel(), kThreads), kThreads}, stream,
        Numbers{make_uint2(key[0], key[1]), numbers.first, numbers.row_stride, numbers.deviation},
        device_data<T>(x), x.numel(), x.size(1));
  });
}

const KernelRegistration register_fill_normal(fill_normal_slot, DeviceType::kCuda,
                                              fill_normal_cuda);

}  // namespace
}  // namespace fathom::kernels
