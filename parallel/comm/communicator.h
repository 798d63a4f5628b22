#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::parallel {

enum class ReduceOp { kSum, kMax };

// A communication in flight. It keeps its tensors alive; wait() orders the stream after it and the
// destructor waits, where an error is only logged. Until then what is received or reduced must not
// be read, and what is sent not be written. A default-constructed Work is already done. It must not
// outlive its communicator and stream.
class [[nodiscard]] Work {
 public:
  Work() = default;
  explicit Work(std::function<void()> finish) : finish_(std::move(finish)) {}
  Work(Work&& other) noexcept : finish_(std::exchange(other.finish_, nullptr)) {}
  Work& operator=(Work&& other) noexcept;  // what was held before ends as if destroyed
  ~Work();
  void wait();  // throws CommError

 private:
  std::function<void()> finish_;
};

// An ordered group of ranks; all of them call the same collectives in the same order. There is no
// global state. Every wait has a deadline: a timeout is a CommError that names the group, the
// operation and, where known, the ranks that are missing. Sums and maxima over ranks are taken in a
// binary tree over the rank index, so they are the same bits on every rank, on every run and for
// every transport; over NCCL where the stream's sum_order() is kFixed (nccl_communicator.h). A
// group of one simply works. Tensors live on one device; float32, bfloat16 or int64 for reductions.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const noexcept = 0;
  virtual int world_size() const noexcept = 0;
  // "world", "data", "tensor", ...: for messages and metrics.
  virtual const std::string& name() const noexcept = 0;

  // x <- op over ranks.
  virtual Work all_reduce(Tensor& x, ReduceOp op, Stream& stream) = 0;
  // full [world_size * n, ...] <- the shards [n, ...] of all ranks in rank order.
  virtual Work all_gather(const Tensor& shard, Tensor& full, Stream& stream) = 0;
  // shard [n, ...] <- rows [rank * n, (rank + 1) * n) of the sum of full [world_size * n, ...]. The
  // shard may be those rows of `full`.
  virtual Work reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) = 0;
  virtual Work broadcast(Tensor& x, int root, Stream& stream) = 0;
  // Rows of dimension 0: the first send_rows[0] go to rank 0, and so on; recv is filled in rank
  // order with recv_rows[r] rows from rank r. The row size is the same on all ranks.
  virtual Work all_to_all(const Tensor& send, std::span<const std::int64_t> send_rows, Tensor& recv,
                          std::span<const std::int64_t> recv_rows, Stream& stream) = 0;
  // Point to point, matched in order between each pair of ranks. send() does not wait for the
  // receiver: it is safe to send before receiving on both sides. The Work of recv must be waited
  // for before the tensor is read.
  virtual Work send(const Tensor& x, int to, Stream& stream) = 0;
  virtual Work recv(Tensor& x, int from, Stream& stream) = 0;
  // To be called before the first send() to or recv() from these ranks, which name this one, too:
  // sets up what the transport needs between them, waiting for them, and nothing the second time.
  virtual void connect(std::span<const int> peers);
  // Returns when all ranks have called it.
  virtual void barrier() = 0;

  // Host integers, synchronous: what every rank gave, as many each, rank by rank.
  virtual void all_gather_integers(std::span<const std::int64_t> mine,
                                   std::span<std::int64_t> all) = 0;

  // A group of some ranks of this one, in the order given; this rank must be among them. Collective
  // over the members, which all give the same list and name; a rank that makes several groups makes
  // them in the same order as the others. Groups are independent of the group that they were made
  // from.
  virtual std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                              const std::string& group_name) = 0;

  // Payload bytes that this rank handed to other ranks through this group so far: all_gather
  // (world_size - 1) * shard; reduce_scatter (world_size - 1) * shard; all_reduce as a
  // reduce_scatter and an all_gather when it is longer than 64 KiB, else as an all_gather of the
  // whole; broadcast counts on the root, (world_size - 1) * x; all_to_all and send what leaves for
  // other ranks. Host integers are not counted.
  virtual std::int64_t bytes_sent() const noexcept = 0;
};

}  // namespace fathom::parallel
