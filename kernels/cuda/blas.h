#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/stream.h"

namespace fathom::kernels::cuda {

// A factor of a product, row-major in device memory.
struct Factor {
  const std::byte* data = nullptr;
  std::int64_t stride = 0;  // elements from one row to the next, as stored
  bool is_transposed = false;
  std::int64_t batch_stride = 0;  // elements from one matrix of a batch to the next
};

// Where a product goes, row-major in device memory.
struct Output {
  std::byte* data = nullptr;
  std::int64_t stride = 0;
  DType dtype = DType::kFloat32;
  bool is_adding = false;  // onto what is there
  std::int64_t batch_stride = 0;
};

// output = left right, or output += left right. A factor that is transposed lies in memory as its
// transpose.
//   left    [num_rows, inner_size]     float32 or bfloat16
//   right   [inner_size, num_columns]  that of left
//   output  [num_rows, num_columns]    float32, or bfloat16 when the factors are
// A batch is so many products of these sizes, each with matrices of its own; its outputs share no
// element, but may lie between one another's rows. No size is 0.
struct Product {
  std::int64_t num_rows = 0;
  std::int64_t num_columns = 0;
  std::int64_t inner_size = 0;
  DType factor_dtype = DType::kFloat32;
  Factor left;
  Factor right;
  Output output;
  std::int64_t batch_size = 1;
};

// Sums in float32, rounded once to the output; float32 factors are multiplied as such (no TF32).
// On a real device the product is cuBLASLt's, and the order of its sums follows from sizes, dtypes,
// strides and the alignment of the pointers. Asynchronous, but for a product of a size that the
// stream has not seen before: then the library's algorithms are tried, unless a CUDA graph is being
// captured. Throws DeviceError.
void product(const Product& product, Stream& stream);

}  // namespace fathom::kernels::cuda
