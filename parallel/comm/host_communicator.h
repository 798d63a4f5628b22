#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/heartbeat.h"

namespace fathom::parallel {

struct CommOptions {
  // A wait without an end for this long is a CommError. Where a watchdog runs, deadline_of_waits():
  // longer than its own, since it knows more.
  std::chrono::milliseconds deadline{std::chrono::minutes(30)};
  // A wait keeps its core for so long before it gives it up between looks. Zero where ranks share
  // cores.
  std::chrono::microseconds spin_time{50};
  Heartbeat* heartbeat = nullptr;  // may be null; outlives the communicators
  // May be null. Once true, waits end with a CommError: another rank of this process has failed.
  std::shared_ptr<const std::atomic<bool>> aborted;
  // Longer messages travel in several parts.
  std::int64_t max_message_bytes = std::int64_t{1} << 30;
};

// Bytes from or to one rank of the group. A send only reads them.
struct Message {
  int rank = 0;
  std::byte* data = nullptr;
  std::int64_t bytes = 0;
};

// One rank's end of some messages under way. The destructor gives up what has not arrived or left.
class Transfer {
 public:
  virtual ~Transfer() = default;
  // Moves what can be moved without waiting. Throws CommError when a message has another length
  // than the receiver expects.
  virtual bool is_done() = 0;
  // Ranks of the group that have not sent, or not taken, their messages.
  virtual std::vector<int> missing_ranks() const = 0;
};

// The collectives on host memory, by direct messages between each pair of ranks; a transport adds
// start() and group(). One arithmetic for all transports: reduce_over_ranks(). all_gather,
// reduce_scatter, all_to_all, broadcast, send and recv are under way when they return and their
// Works may be waited for in any order; a reduce_scatter adds up in Work::wait(). all_reduce and
// the integers are done when they return. On meta tensors nothing moves, only memory and traffic
// are counted. Driven by one thread. After a failed wait the communicator and its relatives can
// only be destroyed.
class HostCommunicator : public Communicator {
 public:
  int rank() const noexcept override { return rank_; }
  int world_size() const noexcept override { return static_cast<int>(world_ranks_.size()); }
  const std::string& name() const noexcept override { return name_; }
  static constexpr int kMaxTag = (1 << 23) - 1;  // what Open MPI's UCX takes

  Work all_reduce(Tensor& x, ReduceOp op, Stream& stream) override;
  Work all_gather(const Tensor& shard, Tensor& full, Stream& stream) override;
  Work reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) override;
  Work broadcast(Tensor& x, int root, Stream& stream) override;
  Work all_to_all(const Tensor& send, std::span<const std::int64_t> send_rows, Tensor& recv,
                  std::span<const std::int64_t> recv_rows, Stream& stream) override;
  Work send(const Tensor& x, int to, Stream& stream) override;
  Work recv(Tensor& x, int from, Stream& stream) override;
  void barrier() override;
  void all_gather_integers(std::span<const std::int64_t> mine,
                           std::span<std::int64_t> all) override;
  std::int64_t bytes_sent() const noexcept override { return bytes_sent_; }

 protected:
  // Starts all messages. At most one goes each way between two ranks under one tag (0 ...
  // kMaxTag); the receiver knows the length. The bytes stay valid until the transfer is done or
  // destroyed.
  virtual std::unique_ptr<Transfer> start(std::span<const Message> sends,
                                          std::span<const Message> receives, int tag) = 0;

  // What a group made from this one shares with it.
  struct Inheritance {
    CommOptions options;
    std::shared_ptr<std::atomic<bool>> has_failed;  // a wait of this rank, in any group
  };
  static Inheritance make_inheritance(CommOptions options);
  // world_ranks: the members in group order, for messages.
  HostCommunicator(std::string name, int rank, std::vector<int> world_ranks,
                   Inheritance inheritance);
  const Inheritance& inheritance() const noexcept { return inherited_; }
  const std::vector<int>& world_ranks() const noexcept { return world_ranks_; }
  // For group(): this rank's place among `ranks`; their world ranks. Throws InternalError for a
  // list that is not one of a group.
  int rank_among(std::span<const int> ranks, const std::string& group_name) const;
  std::vector<int> world_ranks_of(std::span<const int> ranks) const;
  std::string describe_ranks(std::span<const int> ranks) const;  // "rank 2 (world rank 6)"

 private:
  enum class Operation {
    kAllReduce,
    kAllReduceGather,
    kAllGather,
    kReduceScatter,
    kBroadcast,
    kAllToAll,
    kSend,
    kRecv,
    kBarrier,
    kAllGatherIntegers,
  };

  // A communication under way and what it needs until its end.
  struct Pending {
    std::unique_ptr<Transfer> transfer;  // null: nothing moves
    Operation operation = Operation::kBarrier;
    std::uint64_t number = 0;
    std::array<Tensor, 3> kept;
  };

  static const char* name_of(Operation operation) noexcept;
  void check_peer(int peer, Operation operation) const;
  void add_send(int to, const Tensor& x, std::int64_t begin_byte, std::int64_t bytes);
  void add_receive(int from, const Tensor& x, std::int64_t begin_byte, std::int64_t bytes);
  Pending begin(Operation operation, std::uint64_t number, std::array<Tensor, 3> kept);
  Work begin_work(Operation operation, std::uint64_t number, std::array<Tensor, 3> kept);
  void finish(Pending& pending);
  void wait(Pending& pending);
  bool is_given_up() const noexcept;
  [[noreturn]] void fail(const Pending& pending, std::string_view reason) const;
  void gather(Operation operation, std::span<const std::int64_t> mine, std::span<std::int64_t> all);
  void gather_directly(Operation operation, std::span<const std::int64_t> mine,
                       std::span<std::int64_t> all);
  void gather_in_rounds(Operation operation, std::span<const std::int64_t> mine,
                        std::span<std::int64_t> all);
  void all_reduce_short(Tensor& x, ReduceOp op, Stream& stream);
  void all_reduce_long(Tensor& x, ReduceOp op, Stream& stream);
  int peer_at(int distance) const { return (rank_ + distance) % world_size(); }

  std::string name_;
  int rank_;
  std::vector<int> world_ranks_;
  Inheritance inherited_;
  const char* heartbeat_name_ = "";
  std::uint64_t num_collectives_ = 0;
  std::vector<std::uint64_t> num_sent_to_, num_received_from_;  // point to point, by rank
  std::int64_t bytes_sent_ = 0;
  std::vector<Message> sends_, receives_;  // of the operation that is being started
  std::vector<Pending> failed_;            // others may still read from them or write to them
};

}  // namespace fathom::parallel
