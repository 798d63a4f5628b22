#pragma once

#include "core/tensor.h"
#include "kernels/cuda/grouped_product.h"

namespace fathom::kernels::cuda {

// result[row, column] = the sum over chunks of partial[chunk, row, column], in float32 in the
// binary tree over the chunks' index (docs/numerics.md, rule 4), rounded once.
//   partial  [num_chunks, num_rows, num_columns] float32; num_chunks a power of two up to 256
//   result   [num_rows, num_columns] float32 or bfloat16
// Asynchronous on `stream`. Throws InternalError for too many chunks.
void add_chunks(const Tensor& partial, const RowMajor& result, Stream& stream);

}  // namespace fathom::kernels::cuda
