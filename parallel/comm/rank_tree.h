#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/stream.h"
#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// out[i] = op over ranks of contributions[rank][i], taken in a binary tree over the rank index:
// neighbours (0, 1), (2, 3), ... first, then those pairs, and so on; one without a neighbour joins
// a level later. So five ranks give ((0 + 1) + (2 + 3)) + 4.
//   contributions  one array of `count` elements a rank, host memory
//   out            [count]; may be one of them
// float32 or int64: sums in that type; bfloat16: the same tree in float32, rounded once at its end,
// to nearest even. A maximum with a NaN is NaN. Throws InternalError for another dtype.
void reduce_over_ranks(std::span<const std::byte* const> contributions, std::byte* out,
                       std::int64_t count, DType dtype, ReduceOp op, Stream& stream);

}  // namespace fathom::parallel
