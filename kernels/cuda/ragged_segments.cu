#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/ragged_segments.h"

namespace fathom::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct RowSizes {
  std::int64_t values[kNumRowSizes];
};

// A thread a batch, and one more for the end.
__global__ void __launch_bounds__(kThreads)
    make_ragged(const std::int32_t* segments, int num_segments, RowSizes row_sizes, int num_batches,
                std::int64_t* offsets, std::int32_t* lengths) {
  const int batch = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (batch > num_batches) {
    return;
  }
  const std::int32_t begin = segments[min(batch, num_segments)];
  for (int i = 0; i < kNumRowSizes; ++i) {
    offsets[std::int64_t{i} * (num_batches + 1) + batch] = row_sizes.values[i] * begin;
  }
  if (batch < num_batches) {
    lengths[batch] = segments[min(batch + 1, num_segments)] - begin;
  }
}

}  // namespace

RaggedSegments ragged_segments(const Tensor& segments,
                               const std::array<std::int64_t, kNumRowSizes>& row_sizes,
                               std::int64_t num_batches, Stream& stream) {
  RaggedSegments ragged{Tensor::empty({kNumRowSizes, num_batches + 1}, DType::kInt64, stream),
                        Tensor::empty({num_batches}, DType::kInt32, stream)};
  RowSizes sizes{};
  std::copy(row_sizes.begin(), row_sizes.end(), sizes.values);
  launch(make_ragged, {blocks_for(num_batches + 1, kThreads), kThreads}, stream,
         device_data<std::int32_t>(segments), segments.size(0) - 1, sizes, num_batches,
         device_data<std::int64_t>(ragged.offsets), device_data<std::int32_t>(ragged.lengths));
  return ragged;
}

}  // namespace fathom::kernels::cuda
