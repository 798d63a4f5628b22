#pragma once

#include <array>
#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::kernels::cuda {

// Segments of any lengths as a library wants them.
//   offsets  [num_row_sizes, num_batches + 1] int64: where each begins, in elements of a tensor
//            with rows of row_sizes[i] elements; the last is the end of all
//   lengths  [num_batches] int32
// Beyond the segments are empty ones.
inline constexpr std::int64_t kNumRowSizes = 4;
struct RaggedSegments {
  Tensor offsets;
  Tensor lengths;
};
RaggedSegments ragged_segments(const Tensor& segments,
                               const std::array<std::int64_t, kNumRowSizes>& row_sizes,
                               std::int64_t num_batches, Stream& stream);

}  // namespace fathom::kernels::cuda
