#include "parallel/comm/host_communicator.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "parallel/comm/rank_rows.h"
#include "parallel/comm/rank_tree.h"

namespace fathom::parallel {
namespace {

std::byte* byte_at(const Tensor& x, std::int64_t byte) {
  return x.raw() == nullptr ? nullptr : x.raw() + byte;
}

bool is_meta(const Tensor& x) { return x.device().type == DeviceType::kMeta; }

// Bytes are copied at once, unless they are already there.
void copy_own_part(const Tensor& from, std::int64_t from_byte, const Tensor& to,
                   std::int64_t to_byte, std::int64_t bytes) {
  std::byte* const target = byte_at(to, to_byte);
  const std::byte* const source = byte_at(from, from_byte);
  if (bytes > 0 && target != source) {
    std::memmove(target, source, static_cast<std::size_t>(bytes));
  }
}

}  // namespace

HostCommunicator::Inheritance HostCommunicator::make_inheritance(CommOptions options) {
  return {std::move(options), std::make_shared<std::atomic<bool>>(false)};
}

HostCommunicator::HostCommunicator(std::string name, int rank, std::vector<int> world_ranks,
                                   Inheritance inheritance)
    : name_(std::move(name)),
      rank_(rank),
      world_ranks_(std::move(world_ranks)),
      inherited_(std::move(inheritance)),
      num_sent_to_(world_ranks_.size()),
      num_received_from_(world_ranks_.size()) {
  FATHOM_CHECK(0 <= rank_ && rank_ < world_size(), "rank ", rank_, " of ", world_size());
  FATHOM_CHECK(inherited_.options.max_message_bytes > 0, inherited_.options.max_message_bytes,
               " bytes");
  if (inherited_.options.heartbeat != nullptr) {
    heartbeat_name_ = inherited_.options.heartbeat->keep_name(name_);
  }
}

Work HostCommunicator::all_reduce(Tensor& x, ReduceOp op, Stream& stream) {
  FATHOM_CHECK(x.dtype() != DType::kInt32, "all_reduce of ", x.dtype());
  if (world_size() == 1) {
    return {};
  }
  if (x.size_bytes() > kShortAllReduceBytes) {
    all_reduce_long(x, op, stream);
  } else {
    all_reduce_short(x, op, stream);
  }
  return {};
}

// Every rank gets all contributions and adds them up.
void HostCommunicator::all_reduce_short(Tensor& x, ReduceOp op, Stream& stream) {
  const std::int64_t bytes = x.size_bytes();
  Tensor others = Tensor::empty(Shape{(world_size() - 1) * x.numel()}, x.dtype(), stream);
  std::vector<const std::byte*> contributions(world_ranks_.size());
  contributions[static_cast<std::size_t>(rank_)] = x.raw();
  for (int distance = 1; distance < world_size(); ++distance) {
    const int peer = peer_at(distance);
    add_send(peer, x, 0, bytes);
    add_receive(peer, others, (distance - 1) * bytes, bytes);
    contributions[static_cast<std::size_t>(peer)] = byte_at(others, (distance - 1) * bytes);
  }
  Pending pending = begin(Operation::kAllReduce, num_collectives_++, {x, others});
  finish(pending);
  if (!is_meta(x)) {
    reduce_over_ranks(contributions, x.raw(), x.numel(), x.dtype(), op, stream);
  }
}

// Every rank adds up its part of the elements, rank r [r * n / size, (r + 1) * n / size), and gives
// it to the others.
void HostCommunicator::all_reduce_long(Tensor& x, ReduceOp op, Stream& stream) {
  const std::int64_t element_bytes = size_of(x.dtype());
  const auto part_begin = [&](int rank) { return x.numel() * rank / world_size(); };
  const std::int64_t own_begin = part_begin(rank_);
  const std::int64_t own_count = part_begin(rank_ + 1) - own_begin;
  const std::int64_t own_bytes = own_count * element_bytes;
  Tensor others = Tensor::empty(Shape{(world_size() - 1) * own_count}, x.dtype(), stream);
  std::vector<const std::byte*> contributions(world_ranks_.size());
  contributions[static_cast<std::size_t>(rank_)] = byte_at(x, own_begin * element_bytes);
  const auto part_bytes = [&](int rank) {
    return (part_begin(rank + 1) - part_begin(rank)) * element_bytes;
  };
  for (int distance = 1; distance < world_size(); ++distance) {
    const int peer = peer_at(distance);
    add_send(peer, x, part_begin(peer) * element_bytes, part_bytes(peer));
    add_receive(peer, others, (distance - 1) * own_bytes, own_bytes);
    contributions[static_cast<std::size_t>(peer)] = byte_at(others, (distance - 1) * own_bytes);
  }
  const std::uint64_t number = num_collectives_++;
  Pending scatter = begin(Operation::kAllReduce, number, {x, others});
  finish(scatter);
  if (!is_meta(x)) {
    reduce_over_ranks(contributions, byte_at(x, own_begin * element_bytes), own_count, x.dtype(),
                      op, stream);
  }
  for (int distance = 1; distance < world_size(); ++distance) {
    const int peer = peer_at(distance);
    add_send(peer, x, own_begin * element_bytes, own_bytes);
    add_receive(peer, x, part_begin(peer) * element_bytes, part_bytes(peer));
  }
  Pending gather = begin(Operation::kAllReduceGather, number, {x});
  finish(gather);
}

Work HostCommunicator::all_gather(const Tensor& shard, Tensor& full, Stream& /*stream*/) {
  check_shard(shard, full, world_size(), "all_gather");
  const std::int64_t bytes = shard.size_bytes();
  if (!is_meta(shard)) {
    copy_own_part(shard, 0, full, rank_ * bytes, bytes);
  }
  for (int distance = 1; distance < world_size(); ++distance) {
    const int peer = peer_at(distance);
    add_send(peer, shard, 0, bytes);
    add_receive(peer, full, peer * bytes, bytes);
  }
  return begin_work(Operation::kAllGather, num_collectives_++, {shard, full});
}

Work HostCommunicator::reduce_scatter(const Tensor& full, Tensor& shard, Stream& stream) {
  FATHOM_CHECK(full.dtype() != DType::kInt32, "reduce_scatter of ", full.dtype());
  check_shard(shard, full, world_size(), "reduce_scatter");
  const std::int64_t bytes = shard.size_bytes();
  if (world_size() == 1) {
    if (!is_meta(full)) {
      copy_own_part(full, 0, shard, 0, bytes);
    }
    return {};
  }
  Tensor others = Tensor::empty(Shape{(world_size() - 1) * shard.numel()}, full.dtype(), stream);
  for (int distance = 1; distance < world_size(); ++distance) {
    const int peer = peer_at(distance);
    add_send(peer, full, peer * bytes, bytes);
    add_receive(peer, others, (distance - 1) * bytes, bytes);
  }
  auto pending = std::make_shared<Pending>(
      begin(Operation::kReduceScatter, num_collectives_++, {full, shard, others}));
  return Work([this, pending, &stream] {
    auto [whole, own, scratch] = pending->kept;
    finish(*pending);
    if (is_meta(own)) {
      return;
    }
    const std::int64_t part = own.size_bytes();
    std::vector<const std::byte*> contributions(world_ranks_.size());
    contributions[static_cast<std::size_t>(rank_)] = byte_at(whole, rank_ * part);
    for (int distance = 1; distance < world_size(); ++distance) {
      contributions[static_cast<std::size_t>(peer_at(distance))] =
          byte_at(scratch, (distance - 1) * part);
    }
    reduce_over_ranks(contributions, own.raw(), own.numel(), own.dtype(), ReduceOp::kSum, stream);
  });
}

Work HostCommunicator::broadcast(Tensor& x, int root, Stream& /*stream*/) {
  FATHOM_CHECK(0 <= root && root < world_size(), "broadcast from rank ", root, " of ",
               world_size());
  if (rank_ == root) {
    for (int distance = 1; distance < world_size(); ++distance) {
      add_send(peer_at(distance), x, 0, x.size_bytes());
    }
  } else {
    add_receive(root, x, 0, x.size_bytes());
  }
  return begin_work(Operation::kBroadcast, num_collectives_++, {x});
}

Work HostCommunicator::all_to_all(const Tensor& send, std::span<const std::int64_t> send_rows,
                                  Tensor& recv, std::span<const std::int64_t> recv_rows,
                                  Stream& /*stream*/) {
  check_rows_alike(send, recv, "all_to_all");
  const auto own = static_cast<std::size_t>(rank_);
  const std::vector<std::int64_t> send_begin = row_begins(send_rows, send, world_size());
  const std::vector<std::int64_t> recv_begin = row_begins(recv_rows, recv, world_size());
  const std::int64_t bytes = row_bytes(send);
  if (!is_meta(send)) {
    FATHOM_CHECK(send_rows[own] == recv_rows[own], send_rows[own], " rows to and ", recv_rows[own],
                 " rows from rank ", rank_, " itself");
    copy_own_part(send, send_begin[own] * bytes, recv, recv_begin[own] * bytes,
                  send_rows[own] * bytes);
  }
  for (int distance = 1; distance < world_size(); ++distance) {
    const int to = peer_at(distance);
    const int from = peer_at(world_size() - distance);
    const auto to_index = static_cast<std::size_t>(to);
    const auto from_index = static_cast<std::size_t>(from);
    add_send(to, send, send_begin[to_index] * bytes, send_rows[to_index] * bytes);
    add_receive(from, recv, recv_begin[from_index] * bytes, recv_rows[from_index] * bytes);
  }
  return begin_work(Operation::kAllToAll, num_collectives_++, {send, recv});
}

Work HostCommunicator::send(const Tensor& x, int to, Stream& /*stream*/) {
  check_peer(to, Operation::kSend);
  add_send(to, x, 0, x.size_bytes());
  return begin_work(Operation::kSend, num_sent_to_[static_cast<std::size_t>(to)]++, {x});
}

Work HostCommunicator::recv(Tensor& x, int from, Stream& /*stream*/) {
  check_peer(from, Operation::kRecv);
  add_receive(from, x, 0, x.size_bytes());
  return begin_work(Operation::kRecv, num_received_from_[static_cast<std::size_t>(from)]++, {x});
}

void HostCommunicator::barrier() {
  const std::int64_t here = rank_;
  std::vector<std::int64_t> all(world_ranks_.size());
  gather(Operation::kBarrier, {&here, 1}, all);
}

void HostCommunicator::all_gather_integers(std::span<const std::int64_t> mine,
                                           std::span<std::int64_t> all) {
  FATHOM_CHECK(all.size() == world_ranks_.size() * mine.size(), mine.size(), " from each of ",
               world_size(), " ranks to ", all.size());
  gather(Operation::kAllGatherIntegers, mine, all);
}

// Few ranks send to each other directly, so that a wait knows every rank that is missing.
void HostCommunicator::gather(Operation operation, std::span<const std::int64_t> mine,
                              std::span<std::int64_t> all) {
  constexpr int kMaxDirect = 32;
  if (world_size() <= kMaxDirect) {
    gather_directly(operation, mine, all);
  } else {
    gather_in_rounds(operation, mine, all);
  }
}

void HostCommunicator::gather_directly(Operation operation, std::span<const std::int64_t> mine,
                                       std::span<std::int64_t> all) {
  const auto block = [&](int rank) {
    return all.subspan(static_cast<std::size_t>(rank) * mine.size(), mine.size());
  };
  std::ranges::copy(mine, block(rank_).begin());
  const auto bytes = static_cast<std::int64_t>(mine.size_bytes());
  for (int distance = 1; distance < world_size() && bytes > 0; ++distance) {
    const int peer = peer_at(distance);
    sends_.push_back({peer, reinterpret_cast<std::byte*>(block(rank_).data()), bytes});
    receives_.push_back({peer, reinterpret_cast<std::byte*>(block(peer).data()), bytes});
  }
  Pending pending = begin(operation, num_collectives_++, {});
  finish(pending);
}

// Before a round of distance d a rank has what it and the d - 1 ranks after it gave, which the rank
// d places before it lacks: log2(world_size) messages a rank (Bruck et al., IEEE TPDS 8(11), 1997).
void HostCommunicator::gather_in_rounds(Operation operation, std::span<const std::int64_t> mine,
                                        std::span<std::int64_t> all) {
  std::vector<std::int64_t> from_here_on(all.size());
  std::ranges::copy(mine, from_here_on.begin());
  const auto block = [&](int begin) {
    return reinterpret_cast<std::byte*>(from_here_on.data() +
                                        static_cast<std::size_t>(begin) * mine.size());
  };
  for (int distance = 1; distance < world_size(); distance *= 2) {
    const int count = std::min(distance, world_size() - distance);
    const auto bytes = static_cast<std::int64_t>(mine.size_bytes()) * count;
    if (bytes > 0) {
      sends_.push_back({peer_at(world_size() - distance), block(0), bytes});
      receives_.push_back({peer_at(distance), block(distance), bytes});
    }
    Pending pending = begin(operation, num_collectives_++, {});
    finish(pending);
  }
  const auto first = static_cast<std::size_t>(rank_) * mine.size();
  std::ranges::rotate_copy(from_here_on, from_here_on.end() - static_cast<std::ptrdiff_t>(first),
                           all.begin());
}

void HostCommunicator::check_peer(int peer, Operation operation) const {
  FATHOM_CHECK(0 <= peer && peer < world_size() && peer != rank_, name_of(operation),
               " between rank ", rank_, " and rank ", peer, " of ", world_size());
}

void HostCommunicator::add_send(int to, const Tensor& x, std::int64_t begin_byte,
                                std::int64_t bytes) {
  FATHOM_CHECK(x.device().type != DeviceType::kCuda, "host communicator given a tensor on ",
               x.device());
  bytes_sent_ += bytes;
  if (bytes > 0 && !is_meta(x)) {
    sends_.push_back({to, byte_at(x, begin_byte), bytes});
  }
}

void HostCommunicator::add_receive(int from, const Tensor& x, std::int64_t begin_byte,
                                   std::int64_t bytes) {
  FATHOM_CHECK(x.device().type != DeviceType::kCuda, "host communicator given a tensor on ",
               x.device());
  if (bytes > 0 && !is_meta(x)) {
    receives_.push_back({from, byte_at(x, begin_byte), bytes});
  }
}

}  // namespace fathom::parallel
