#include "parallel/comm/nccl_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "parallel/comm/nccl_channel.h"
#include "parallel/comm/nccl_steps.h"
#include "parallel/comm/rank_rows.h"

namespace fathom::parallel {
namespace {

// An id of NCCL as it travels between ranks.
constexpr std::size_t kIdIntegers = sizeof(ncclUniqueId) / sizeof(std::int64_t);
using IdIntegers = std::array<std::int64_t, kIdIntegers>;
static_assert(sizeof(IdIntegers) == sizeof(ncclUniqueId));

bool is_on_device(const Tensor& x) { return x.device().type == DeviceType::kCuda; }

// Integers have the same sum in any order.
bool is_reduced_in_tree(const Tensor& x, const Stream& stream) {
  return stream.sum_order() == SumOrder::kFixed && x.dtype() != DType::kInt64;
}

std::size_t count_of(const Tensor& x) { return static_cast<std::size_t>(x.numel()); }

ncclUniqueId make_id() {
  ncclUniqueId id;
  check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  return id;
}

template <class To, class From>
To same_bytes(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<Communicator> host, std::shared_ptr<NcclRank> owner)
      : host_(std::move(host)), owner_(std::move(owner)) {
    FATHOM_CHECK(world_size() > 1, "NCCL for a group of one");
  }

  // To leave a channel waits, on a node, until the other ranks leave it too (their proxy threads
  // are connected), so all leave theirs in one order; lines in that in which they connect.
  ~NcclCommunicator() override {
    for (const auto& [peer, line] : lines_) {
      line.from_lower->leave();
      line.from_upper->leave();
    }
    if (channel_ != nullptr) {
      channel_->leave();
    }
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const noexcept override { return host_->rank(); }
  int world_size() const noexcept override { return host_->world_size(); }
  const std::string& name() const noexcept override { return host_->name(); }
  std::int64_t bytes_sent() const noexcept override {
    return bytes_sent_ + host_->bytes_sent() - setup_bytes_;
  }

  Work all_reduce(Tensor& x, ReduceOp op, Stream& stream) override {
    if (!is_on_device(x)) {
      return host_->all_reduce(x, op, stream);
    }
    FATHOM_CHECK(x.dtype() != DType::kInt32, "all_reduce of ", x.dtype());
    const std::int64_t own =
        x.numel() * (rank() + 1) / world_size() - x.numel() * rank() / world_size();
    const std::int64_t sent = x.size_bytes() > kShortAllReduceBytes
                                  ? x.numel() - own + others() * own
                                  : others() * x.numel();
    const std::int64_t sent_bytes = sent * size_of(x.dtype());
    if (is_reduced_in_tree(x, stream)) {
      const TreeReduction tree = all_reduce_in_tree(x, op, place(), stream);
      return collective("all_reduce", sent_bytes, {x, x, tree.contributions}, stream, tree.steps);
    }
    return collective(
        "all_reduce", sent_bytes, {x, x}, stream, {[&](ncclComm_t comm, cudaStream_t on) {
          check_nccl(ncclAllReduce(x.raw(), x.raw(), count_of(x), nccl_type(x.dtype()),
                                   op == ReduceOp::kSum ? ncclSum : ncclMax, comm, on),
                     "ncclAllReduce");
        }});
  }

  Work all_gather(const Tensor& shard, Tensor& full, Stream& stream) override {
    if (!is_on_device(shard)) {
      return host_->all_gather(shard, full, stream);
    }
    check_shard(shard, full, world_size(), "all_gather");
    return collective("all_gather", others() * shard.size_bytes(), {shard, full}, stream,
                      {[&](ncclComm_t comm, cudaStream_t on) {
                        check_nccl(ncclAllGather(shard.raw(), full.raw(), count_of(shard),
                                                 nccl_type(shard.dtype()), comm, on),
                                   "ncclAllGather");
                      }});
  }

  Work reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) override {
    if (!is_on_device(full)) {
      return host_->reduce_scatter(full, shard, stream);
    }
    FATHOM_CHECK(full.dtype() != DType::kInt32, "reduce_scatter of ", full.dtype());
    check_shard(shard, full, world_size(), "reduce_scatter");
    const std::int64_t sent_bytes = others() * shard.size_bytes();
    if (is_reduced_in_tree(full, stream)) {
      const TreeReduction tree = reduce_scatter_in_tree(full, shard, place(), stream);
      return collective("reduce_scatter", sent_bytes, {full, shard, tree.contributions}, stream,
                        tree.steps);
    }
    return collective("reduce_scatter", sent_bytes, {full, shard}, stream,
                      {[&](ncclComm_t comm, cudaStream_t on) {
                        check_nccl(ncclReduceScatter(full.raw(), shard.raw(), count_of(shard),
                                                     nccl_type(full.dtype()), ncclSum, comm, on),
                                   "ncclReduceScatter");
                      }});
  }

  Work broadcast(Tensor& x, int root, Stream& stream) override {
    if (!is_on_device(x)) {
      return host_->broadcast(x, root, stream);
    }
    FATHOM_CHECK(0 <= root && root < world_size(), "broadcast from rank ", root, " of ",
                 world_size());
    return collective("broadcast", rank() == root ? others() * x.size_bytes() : 0, {x, x}, stream,
                      {[&](ncclComm_t comm, cudaStream_t on) {
                        check_nccl(ncclBroadcast(x.raw(), x.raw(), count_of(x),
                                                 nccl_type(x.dtype()), root, comm, on),
                                   "ncclBroadcast");
                      }});
  }

  Work all_to_all(const Tensor& send, std::span<const std::int64_t> send_rows, Tensor& recv,
                  std::span<const std::int64_t> recv_rows, Stream& stream) override {
    if (!is_on_device(send)) {
      return host_->all_to_all(send, send_rows, recv, recv_rows, stream);
    }
    check_rows_alike(send, recv, "all_to_all");
    const auto leaving = ranges_of_rows(send_rows, send);
    const auto arriving = ranges_of_rows(recv_rows, recv);
    bytes_sent_ += send.size_bytes() - leaving[static_cast<std::size_t>(rank())].count;
    return start("all_to_all", {send, recv}, stream,
                 {exchange_step(send, leaving, recv, arriving, place())});
  }

  Work send(const Tensor& x, int to, Stream& stream) override {
    if (!is_on_device(x)) {
      return host_->send(x, to, stream);
    }
    Line& line = line_to(to);
    bytes_sent_ += x.size_bytes();
    if (x.numel() == 0) {
      return {};
    }
    return finish_later(
        line.sends().start("send", stream, {[&](ncclComm_t comm, cudaStream_t on) {
                             check_nccl(ncclSend(x.raw(), count_of(x), nccl_type(x.dtype()),
                                                 line.peer(), comm, on),
                                        "ncclSend");
                           }}),
        {x, x}, stream);
  }

  Work recv(Tensor& x, int from, Stream& stream) override {
    if (!is_on_device(x)) {
      return host_->recv(x, from, stream);
    }
    Line& line = line_to(from);
    if (x.numel() == 0) {
      return {};
    }
    return finish_later(
        line.receives().start("recv", stream, {[&](ncclComm_t comm, cudaStream_t on) {
                                check_nccl(ncclRecv(x.raw(), count_of(x), nccl_type(x.dtype()),
                                                    line.peer(), comm, on),
                                           "ncclRecv");
                              }}),
        {x, x}, stream);
  }

  // All ranks go through their pairs in ascending order, so that the first pair that is not
  // connected yet is both its ranks' next: none waits in a circle.
  void connect(std::span<const int> peers) override {
    std::vector<int> ascending(peers.begin(), peers.end());
    std::sort(ascending.begin(), ascending.end());
    for (const int peer : ascending) {
      FATHOM_CHECK(0 <= peer && peer < world_size() && peer != rank(), "rank ", rank(),
                   " connects to rank ", peer, " of ", world_size());
      if (!lines_.contains(peer)) {
        lines_.emplace(peer, make_line(peer));
      }
    }
  }

  void barrier() override {
    owner_->monitor.check();
    host_->barrier();
  }
  void all_gather_integers(std::span<const std::int64_t> mine,
                           std::span<std::int64_t> all) override {
    owner_->monitor.check();
    host_->all_gather_integers(mine, all);
  }

  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      const std::string& group_name) override {
    auto host_group = host_->group(ranks, group_name);
    if (host_group->world_size() == 1) {
      return host_group;
    }
    return std::make_unique<NcclCommunicator>(std::move(host_group), owner_);
  }

 private:
  using Tensors = std::array<Tensor, 3>;  // read, written, and any in between
  // Both directions between this rank and another, each of which waits for nothing but itself:
  // a send passes a receive that still waits.
  struct Line {
    std::shared_ptr<NcclChannel> from_lower, from_upper;  // by the rank that sends
    bool is_lower = false;                                // this rank

    NcclChannel& sends() const { return is_lower ? *from_lower : *from_upper; }
    NcclChannel& receives() const { return is_lower ? *from_upper : *from_lower; }
    int peer() const { return is_lower ? 1 : 0; }  // the other rank's number on the line
  };

  std::int64_t others() const { return world_size() - 1; }
  RankPlace place() const { return {rank(), world_size()}; }

  std::vector<ByteRange> ranges_of_rows(std::span<const std::int64_t> num_rows,
                                        const Tensor& x) const {
    const std::vector<std::int64_t> begins = row_begins(num_rows, x, world_size());
    const std::int64_t bytes = row_bytes(x);
    std::vector<ByteRange> ranges;
    for (std::size_t r = 0; r < num_rows.size(); ++r) {
      ranges.push_back({begins[r] * bytes, num_rows[r] * bytes});
    }
    return ranges;
  }

  OperationName name_for_messages(int number_here, int num_ranks) const {
    return {"", name(), number_here, num_ranks, 0};
  }

  // Set up by the first collective, since many groups never see a tensor of the device.
  NcclChannel& channel() {
    if (channel_ == nullptr) {
      owner_->monitor.check();
      IdIntegers mine{};
      if (rank() == 0) {
        mine = same_bytes<IdIntegers>(make_id());
      }
      std::vector<std::int64_t> all(kIdIntegers * static_cast<std::size_t>(world_size()));
      host_->all_gather_integers(mine, all);
      std::copy_n(all.begin(), kIdIntegers, mine.begin());
      channel_ = NcclChannel::make(same_bytes<ncclUniqueId>(mine), ChannelUse::kCollectives,
                                   name_for_messages(rank(), world_size()), *owner_);
    }
    return *channel_;
  }

  // The lower rank of the two makes the ids; the first is of what it sends.
  Line make_line(int peer) {
    Stream host_stream;
    Tensor ids = Tensor::zeros(Shape{2, kIdIntegers}, DType::kInt64, host_stream);
    std::array<ncclUniqueId, 2> both{};
    const bool is_lower = rank() < peer;
    if (is_lower) {
      both = {make_id(), make_id()};
      std::memcpy(ids.raw(), both.data(), sizeof(both));
      host_->send(ids, peer, host_stream).wait();
      setup_bytes_ += ids.size_bytes();
    } else {
      host_->recv(ids, peer, host_stream).wait();
      std::memcpy(both.data(), ids.raw(), sizeof(both));
    }
    const OperationName here = name_for_messages(is_lower ? 0 : 1, 2);
    const auto make = [&](const ncclUniqueId& id, bool sends) {
      return NcclChannel::make(id, sends ? ChannelUse::kSends : ChannelUse::kReceives, here,
                               *owner_);
    };
    auto from_lower = make(both[0], is_lower);
    auto from_upper = make(both[1], !is_lower);
    return {std::move(from_lower), std::move(from_upper), is_lower};
  }

  Line& line_to(int peer) {
    const auto found = lines_.find(peer);
    FATHOM_CHECK(found != lines_.end(), "a message between rank ", rank(), " and rank ", peer,
                 " of group ", name(), ", which connect() has not connected");
    return found->second;
  }

  Work collective(const char* operation, std::int64_t sent_bytes, Tensors kept, Stream& stream,
                  const NcclChannel::Steps& steps) {
    bytes_sent_ += sent_bytes;
    if (kept[1].numel() == 0) {  // on every rank alike
      return {};
    }
    return start(operation, std::move(kept), stream, steps);
  }

  Work start(const char* operation, Tensors kept, Stream& stream, const NcclChannel::Steps& steps) {
    return finish_later(channel().start(operation, stream, steps), std::move(kept), stream);
  }

  Work finish_later(std::shared_ptr<NcclOperation> operation, Tensors kept, Stream& stream) {
    return Work(
        [owner = owner_, operation = std::move(operation), kept = std::move(kept), &stream] {
          owner->monitor.check();
          wait_on_stream(*operation, stream);
        });
  }

  std::unique_ptr<Communicator> host_;
  std::shared_ptr<NcclRank> owner_;
  std::shared_ptr<NcclChannel> channel_;
  std::map<int, Line> lines_;  // by the other rank
  std::int64_t bytes_sent_ = 0;
  std::int64_t setup_bytes_ = 0;  // of host_ that are no payload
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_world(Communicator& host_world, Device device,
                                              const CommOptions& options) {
  FATHOM_CHECK(device.type == DeviceType::kCuda, "NCCL on ", device);
  std::vector<int> ranks(static_cast<std::size_t>(host_world.world_size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  auto host = host_world.group(ranks, host_world.name());
  if (ranks.size() == 1) {
    return host;
  }
  auto owner = std::make_shared<NcclRank>(device.index, options);
  return std::make_unique<NcclCommunicator>(std::move(host), std::move(owner));
}

}  // namespace fathom::parallel
