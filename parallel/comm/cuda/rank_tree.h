#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "parallel/comm/communicator.h"

namespace fathom::parallel::cuda {

// out[i] = op over ranks of contributions[rank][i], with the bits of parallel/comm/rank_tree.h.
//   contributions  [num_ranks, count], device memory
//   out            [count]; may be a row of them
// float32 or bfloat16. Asynchronous on `stream`, which is of the calling thread's device. Throws
// DeviceError, and InternalError for another dtype or more than 65535 ranks.
void reduce_over_ranks(const std::byte* contributions, int num_ranks, std::byte* out,
                       std::int64_t count, DType dtype, ReduceOp op, cudaStream_t stream);

}  // namespace fathom::parallel::cuda
