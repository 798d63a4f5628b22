#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// Sequence parallelism (arXiv:2205.05198): between blocks each tensor rank holds an even,
// consecutive part of a micro-batch's token rows; inside a block it holds all rows of its part of
// the features.

// [rows * world_size, columns] from the parts of all ranks; the tensor itself in a group of one.
Tensor gather_token_rows(Communicator& tensor, const Tensor& part, Stream& stream);
// This rank's rows of the sum over ranks of [rows, columns], as `dtype`: where the partial sums are
// of another, they are added in theirs and rounded at the end. In a group of one the tensor itself,
// if it has that dtype.
Tensor sum_and_scatter_token_rows(Communicator& tensor, const Tensor& partial_sums, DType dtype,
                                  Stream& stream);

}  // namespace fathom::parallel
