#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/nccl_channel.h"

// What several collectives on a channel are made of. Only for nccl_*.cc.
namespace fathom::parallel {

// Bytes [begin, begin + count) of a tensor.
struct ByteRange {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

// A rank's place among those of a channel.
struct RankPlace {
  int rank = 0;
  int num_ranks = 1;
};

// The bytes leaving[r] of `from` go to rank r, whose bytes arrive as arriving[r] of `to`; one's own
// are copied, unless they are already there.
NcclChannel::Step exchange_step(const Tensor& from, std::vector<ByteRange> leaving,
                                const Tensor& to, std::vector<ByteRange> arriving,
                                const RankPlace& place);

// Reductions in the binary tree over the rank index (rank_tree.h), by what NCCL moves and a kernel
// of ours adds up; float32 or bfloat16. `contributions` must live until they have ended.
struct TreeReduction {
  Tensor contributions;
  NcclChannel::Steps steps;
};

// Of Communicator's arguments; `stream`: whose memory the contributions take.
TreeReduction all_reduce_in_tree(const Tensor& x, ReduceOp op, const RankPlace& place,
                                 Stream& stream);
TreeReduction reduce_scatter_in_tree(const Tensor& full, const Tensor& shard,
                                     const RankPlace& place, Stream& stream);

}  // namespace fathom::parallel
