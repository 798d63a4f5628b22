#include "core/cuda/launch.cuh"
#include "kernels/cuda/binary_tree.cuh"
#include "kernels/cuda/chunk_sums.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"

namespace fathom::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostChunks = 256;

// A thread an element.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add(const float* partial, int num_chunks, std::int64_t chunk_size, std::int64_t num_columns,
        T* result, std::int64_t stride) {
  const std::int64_t element = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (element >= chunk_size) {
    return;
  }
  BinaryTree<Sum, 9> tree;  // of up to kMostChunks
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    tree.add(partial[chunk * chunk_size + element]);
  }
  result[element / num_columns * stride + element % num_columns] = from_float<T>(tree.result());
}

}  // namespace

void add_chunks(const Tensor& partial, const RowMajor& result, Stream& stream) {
  FATHOM_CHECK(partial.size(0) <= kMostChunks, "a sum of ", partial.size(0), " chunks");
  const std::int64_t chunk_size = partial.size(1) * partial.size(2);
  with_activation_type(result.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(add<T>, {blocks_for(chunk_size, kThreads), kThreads}, stream,
           device_data<float>(partial), static_cast<int>(partial.size(0)), chunk_size,
           partial.size(2), reinterpret_cast<T*>(result.data), result.stride);
  });
}

}  // namespace fathom::kernels::cuda
