#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/parameter_buffer.h"

namespace fathom::optim {

// What this rank adds to the norm of the gradient. Shards partition a group of parameters over its
// replicas, so that sums over all ranks of the job count each element of the model once. Nothing
// waits for the device.
//   squares      [kernels::kExactSumIntegers] int64, in-out: += those of the rank's shards of the
//                reduced gradients, exactly
//   non_finite   [1] int64, in-out: += how many of their elements are NaN or Inf
//   num_refused  [1] int64, in-out: += contributions that integer sums left out: NaN, Inf or too
//                large
void add_gradient_squares(parallel::ParameterBuffer& buffer, Tensor& squares, Tensor& non_finite,
                          Tensor& num_refused, Stream& stream);

}  // namespace fathom::optim
