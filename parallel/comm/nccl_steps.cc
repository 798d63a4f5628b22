#include "parallel/comm/nccl_steps.h"

#include <cstddef>
#include <utility>

#include "core/cuda/check.h"
#include "core/error.h"
#include "parallel/comm/cuda/rank_tree.h"
#include "parallel/comm/rank_rows.h"

namespace fathom::parallel {
namespace {

void copy_bytes(const std::byte* from, std::byte* to, std::int64_t count, cudaStream_t on) {
  if (count > 0 && from != to) {
    check_cuda(
        cudaMemcpyAsync(to, from, static_cast<std::size_t>(count), cudaMemcpyDeviceToDevice, on),
        "cudaMemcpyAsync");
  }
}

// Range r is the r-th of equal ones that follow each other.
std::vector<ByteRange> equal_ranges(std::int64_t count, int num_ranks) {
  std::vector<ByteRange> ranges;
  for (int rank = 0; rank < num_ranks; ++rank) {
    ranges.push_back({rank * count, count});
  }
  return ranges;
}

// What each rank adds up of a long x: elements [r * n / num_ranks, (r + 1) * n / num_ranks).
std::vector<ByteRange> parts_of(const Tensor& x, int num_ranks) {
  std::vector<ByteRange> parts;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::int64_t begin = x.numel() * rank / num_ranks;
    const std::int64_t end = x.numel() * (rank + 1) / num_ranks;
    parts.push_back({begin * size_of(x.dtype()), (end - begin) * size_of(x.dtype())});
  }
  return parts;
}

// One for each rank, of `bytes`.
Tensor make_contributions(std::int64_t bytes, DType dtype, int num_ranks, Stream& stream) {
  return Tensor::empty(Shape{num_ranks, bytes / size_of(dtype)}, dtype, stream);
}

// to, from its byte `first` on, <- op over the contributions.
NcclChannel::Step reduce_step(const Tensor& contributions, const Tensor& to, std::int64_t first,
                              ReduceOp op) {
  return [=](ncclComm_t /*comm*/, cudaStream_t on) {
    cuda::reduce_over_ranks(contributions.raw(), static_cast<int>(contributions.size(0)),
                            to.raw() + first, contributions.size(1), to.dtype(), op, on);
  };
}

TreeReduction all_reduce_short(const Tensor& x, ReduceOp op, const RankPlace& place,
                               Stream& stream) {
  Tensor contributions = make_contributions(x.size_bytes(), x.dtype(), place.num_ranks, stream);
  NcclChannel::Step gather = [=](ncclComm_t comm, cudaStream_t on) {
    check_nccl(ncclAllGather(x.raw(), contributions.raw(), static_cast<std::size_t>(x.numel()),
                             nccl_type(x.dtype()), comm, on),
               "ncclAllGather");
  };
  NcclChannel::Step reduce = reduce_step(contributions, x, 0, op);
  return {std::move(contributions), {std::move(gather), std::move(reduce)}};
}

TreeReduction all_reduce_long(const Tensor& x, ReduceOp op, const RankPlace& place,
                              Stream& stream) {
  const auto num_ranks = static_cast<std::size_t>(place.num_ranks);
  const std::vector<ByteRange> parts = parts_of(x, place.num_ranks);
  const ByteRange own = parts[static_cast<std::size_t>(place.rank)];
  Tensor contributions = make_contributions(own.count, x.dtype(), place.num_ranks, stream);
  NcclChannel::Step scatter =
      exchange_step(x, parts, contributions, equal_ranges(own.count, place.num_ranks), place);
  NcclChannel::Step reduce = reduce_step(contributions, x, own.begin, op);
  NcclChannel::Step gather =
      exchange_step(x, std::vector<ByteRange>(num_ranks, own), x, parts, place);
  return {std::move(contributions), {std::move(scatter), std::move(reduce), std::move(gather)}};
}

}  // namespace

NcclChannel::Step exchange_step(const Tensor& from, std::vector<ByteRange> leaving,
                                const Tensor& to, std::vector<ByteRange> arriving,
                                const RankPlace& place) {
  const auto own = static_cast<std::size_t>(place.rank);
  FATHOM_CHECK(leaving[own].count == arriving[own].count, leaving[own].count, " bytes to and ",
               arriving[own].count, " bytes from rank ", place.rank, " itself");
  return [=, leaving = std::move(leaving), arriving = std::move(arriving)](ncclComm_t comm,
                                                                           cudaStream_t on) {
    // One's own bytes first: NCCL need not know of them.
    copy_bytes(from.raw() + leaving[own].begin, to.raw() + arriving[own].begin, leaving[own].count,
               on);
    NcclGroup calls;
    for (int distance = 1; distance < place.num_ranks; ++distance) {
      const int receiver = (place.rank + distance) % place.num_ranks;
      const int sender = (place.rank + place.num_ranks - distance) % place.num_ranks;
      const ByteRange sent = leaving[static_cast<std::size_t>(receiver)];
      const ByteRange received = arriving[static_cast<std::size_t>(sender)];
      if (sent.count > 0) {
        check_nccl(ncclSend(from.raw() + sent.begin, static_cast<std::size_t>(sent.count), ncclInt8,
                            receiver, comm, on),
                   "ncclSend");
      }
      if (received.count > 0) {
        check_nccl(ncclRecv(to.raw() + received.begin, static_cast<std::size_t>(received.count),
                            ncclInt8, sender, comm, on),
                   "ncclRecv");
      }
    }
    calls.end();
  };
}

TreeReduction all_reduce_in_tree(const Tensor& x, ReduceOp op, const RankPlace& place,
                                 Stream& stream) {
  return x.size_bytes() > kShortAllReduceBytes ? all_reduce_long(x, op, place, stream)
                                               : all_reduce_short(x, op, place, stream);
}

TreeReduction reduce_scatter_in_tree(const Tensor& full, const Tensor& shard,
                                     const RankPlace& place, Stream& stream) {
  const std::vector<ByteRange> shards = equal_ranges(shard.size_bytes(), place.num_ranks);
  Tensor contributions =
      make_contributions(shard.size_bytes(), shard.dtype(), place.num_ranks, stream);
  NcclChannel::Step scatter = exchange_step(full, shards, contributions, shards, place);
  NcclChannel::Step reduce = reduce_step(contributions, shard, 0, ReduceOp::kSum);
  return {std::move(contributions), {std::move(scatter), std::move(reduce)}};
}

}  // namespace fathom::parallel
