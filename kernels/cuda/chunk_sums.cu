#include "core/cuda/launch.cuh"
#include "kernels/cuda/chunk_sums.h"
#include "kernels/cuda/device_tensor.cuh"

namespace fathom::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kLevels = 8;  // of the tree

// A thread an element. Like a carry in the chunk's index, a sum goes up as long as it is a right
// neighbour, and then waits for its own: at most one waits a level.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add(const float* partial, int num_chunks, std::int64_t chunk_size, std::int64_t num_columns,
        T* result, std::int64_t stride) {
  const std::int64_t element = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (element >= chunk_size) {
    return;
  }
  float waiting[kLevels] = {};
  float sum = 0.0F;
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    sum = partial[chunk * chunk_size + element];
    bool goes_up = true;
#pragma unroll
    for (int level = 0; level < kLevels; ++level) {
      const bool is_right = (chunk >> level & 1) != 0;
      if (goes_up && is_right) {
        sum = waiting[level] + sum;
      } else if (goes_up) {
        waiting[level] = sum;
        goes_up = false;
      }
    }
  }
  result[element / num_columns * stride + element % num_columns] = from_float<T>(sum);
}

}  // namespace

void add_chunks(const Tensor& partial, const RowMajor& result, Stream& stream) {
  FATHOM_CHECK(partial.size(0) <= 1 << kLevels, "a sum of ", partial.size(0), " chunks");
  const std::int64_t chunk_size = partial.size(1) * partial.size(2);
  with_activation_type(result.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(add<T>, {blocks_for(chunk_size, kThreads), kThreads}, stream,
           device_data<float>(partial), static_cast<int>(partial.size(0)), chunk_size,
           partial.size(2), reinterpret_cast<T*>(result.data), result.stride);
  });
}

}  // namespace fathom::kernels::cuda
