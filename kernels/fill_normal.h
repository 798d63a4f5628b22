#pragma once

#include <cstdint>

#include "core/rng.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Which numbers of a source of N(0, 1) a matrix takes, and their standard deviation.
struct NormalNumbers {
  RandomSource random;
  std::uint64_t first = 0;       // of element (0, 0)
  std::uint64_t row_stride = 0;  // from a row to the next
  float deviation = 1.0F;
};

// x[i, j] = deviation * random.normal(first + i * row_stride + j), in float32, rounded to the dtype
// of x. The same bits on every device.
//   x  [num_rows, num_columns] float32 or bfloat16, out
// Asynchronous on `stream`. Throws InternalError on a mismatch.
void fill_normal(const NormalNumbers& numbers, Tensor& x, Stream& stream);

extern constinit KernelSlot<void(const NormalNumbers&, Tensor&, Stream&)> fill_normal_slot;

}  // namespace fathom::kernels
