#include "parallel/comm/thread_communicator.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>

#include "core/error.h"
#include "parallel/comm/staged_communicator.h"

namespace fathom::parallel {
namespace {

// One end of a message that waits for the other: valid until it has met or is withdrawn.
struct MessageEnd {
  int tag = 0;
  Message message;
  std::atomic<bool> has_met{false};
  std::int64_t bytes_sent = 0;  // by the other end, once it has met
};

// The messages of one rank to one other. The end that comes second copies the bytes, so that
// nothing depends on which of its communications a rank waits for. The lock is held during the
// copy: an end that is withdrawn is not in use.
struct Mailbox {
  std::mutex mutex;
  std::vector<std::shared_ptr<MessageEnd>> sends, receives;

  void add_send(const std::shared_ptr<MessageEnd>& send) {
    const std::lock_guard lock(mutex);
    if (const auto receive = take(receives, send->tag)) {
      copy(*send, *receive);
    } else {
      sends.push_back(send);
    }
  }
  void add_receive(const std::shared_ptr<MessageEnd>& receive) {
    const std::lock_guard lock(mutex);
    if (const auto send = take(sends, receive->tag)) {
      copy(*send, *receive);
    } else {
      receives.push_back(receive);
    }
  }
  void withdraw(const std::shared_ptr<MessageEnd>& end) {
    const std::lock_guard lock(mutex);
    std::erase(sends, end);
    std::erase(receives, end);
  }

 private:
  static std::shared_ptr<MessageEnd> take(std::vector<std::shared_ptr<MessageEnd>>& ends, int tag) {
    const auto found =
        std::find_if(ends.begin(), ends.end(), [tag](const auto& end) { return end->tag == tag; });
    if (found == ends.end()) {
      return nullptr;
    }
    auto end = std::move(*found);
    ends.erase(found);
    return end;
  }
  static void copy(MessageEnd& send, MessageEnd& receive) {
    receive.bytes_sent = send.message.bytes;
    if (send.message.bytes == receive.message.bytes) {
      std::memcpy(receive.message.data, send.message.data,
                  static_cast<std::size_t>(send.message.bytes));
    }
    send.has_met.store(true, std::memory_order_release);
    receive.has_met.store(true, std::memory_order_release);
  }
};

struct ThreadGroup {
  explicit ThreadGroup(std::size_t num_ranks) : size(num_ranks), mailboxes(size * size) {}
  Mailbox& mailbox(int from, int to) {
    return mailboxes[static_cast<std::size_t>(from) * size + static_cast<std::size_t>(to)];
  }
  std::size_t size;
  std::vector<Mailbox> mailboxes;
};

// Where the members of a new group find each other.
struct MeetingPlace {
  struct FormingGroup {
    std::string name;
    std::vector<int> world_ranks;
    std::vector<bool> has_joined;
    std::shared_ptr<ThreadGroup> group;
  };

  std::shared_ptr<ThreadGroup> join(const std::string& name, const std::vector<int>& world_ranks,
                                    int rank) {
    const auto place = static_cast<std::size_t>(rank);
    const std::lock_guard lock(mutex);
    auto forming = std::find_if(groups.begin(), groups.end(), [&](const FormingGroup& candidate) {
      return candidate.name == name && candidate.world_ranks == world_ranks &&
             !candidate.has_joined[place];
    });
    if (forming == groups.end()) {
      forming =
          groups.insert(groups.end(), {name, world_ranks, std::vector<bool>(world_ranks.size()),
                                       std::make_shared<ThreadGroup>(world_ranks.size())});
    }
    forming->has_joined[place] = true;
    std::shared_ptr<ThreadGroup> group = forming->group;
    if (std::count(forming->has_joined.begin(), forming->has_joined.end(), false) == 0) {
      groups.erase(forming);
    }
    return group;
  }

  std::mutex mutex;
  std::vector<FormingGroup> groups;
};

class ThreadTransfer final : public Transfer {
 public:
  ThreadTransfer(std::shared_ptr<ThreadGroup> group, int rank, std::span<const Message> sends,
                 std::span<const Message> receives, int tag)
      : group_(std::move(group)), rank_(rank) {
    for (const Message& message : receives) {
      receives_.push_back(make_end(message, tag));
      group_->mailbox(message.rank, rank_).add_receive(receives_.back());
    }
    for (const Message& message : sends) {
      sends_.push_back(make_end(message, tag));
      group_->mailbox(rank_, message.rank).add_send(sends_.back());
    }
  }
  ~ThreadTransfer() override {
    for (const auto& end : receives_) {
      if (!has_met(end)) {
        group_->mailbox(end->message.rank, rank_).withdraw(end);
      }
    }
    for (const auto& end : sends_) {
      if (!has_met(end)) {
        group_->mailbox(rank_, end->message.rank).withdraw(end);
      }
    }
  }
  ThreadTransfer(const ThreadTransfer&) = delete;
  ThreadTransfer& operator=(const ThreadTransfer&) = delete;

  bool is_done() override {
    for (const auto& receive : receives_) {
      if (has_met(receive) && receive->bytes_sent != receive->message.bytes) {
        throw CommError(concat("receiving ", receive->message.bytes, " bytes from rank ",
                               receive->message.rank, ": it sent ", receive->bytes_sent));
      }
    }
    return std::all_of(receives_.begin(), receives_.end(), has_met) &&
           std::all_of(sends_.begin(), sends_.end(), has_met);
  }

  std::vector<int> missing_ranks() const override {
    std::vector<int> ranks;
    for (const auto* ends : {&receives_, &sends_}) {
      for (const auto& end : *ends) {
        if (!has_met(end)) {
          ranks.push_back(end->message.rank);
        }
      }
    }
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    return ranks;
  }

 private:
  static std::shared_ptr<MessageEnd> make_end(const Message& message, int tag) {
    auto end = std::make_shared<MessageEnd>();
    end->tag = tag;
    end->message = message;
    return end;
  }
  static bool has_met(const std::shared_ptr<MessageEnd>& end) {
    return end->has_met.load(std::memory_order_acquire);
  }

  std::shared_ptr<ThreadGroup> group_;
  int rank_;
  std::vector<std::shared_ptr<MessageEnd>> receives_, sends_;
};

class ThreadCommunicator final : public HostCommunicator {
 public:
  ThreadCommunicator(int rank, std::vector<int> world_ranks, const CommOptions& options,
                     std::shared_ptr<MeetingPlace> meeting_place)
      : ThreadCommunicator("world", rank, std::move(world_ranks), make_inheritance(options),
                           std::move(meeting_place)) {}
  ThreadCommunicator(std::string name, int rank, std::vector<int> world_ranks,
                     Inheritance inheritance, std::shared_ptr<MeetingPlace> meeting_place)
      : HostCommunicator(std::move(name), rank, std::move(world_ranks), std::move(inheritance)),
        meeting_place_(std::move(meeting_place)),
        group_(meeting_place_->join(this->name(), this->world_ranks(), rank)) {}

  std::unique_ptr<Communicator> group(std::span<const int> ranks,
                                      const std::string& group_name) override {
    return std::make_unique<ThreadCommunicator>(group_name, rank_among(ranks, group_name),
                                                world_ranks_of(ranks), inheritance(),
                                                meeting_place_);
  }

 protected:
  std::unique_ptr<Transfer> start(std::span<const Message> sends, std::span<const Message> receives,
                                  int tag) override {
    return std::make_unique<ThreadTransfer>(group_, rank(), sends, receives, tag);
  }

 private:
  std::shared_ptr<MeetingPlace> meeting_place_;
  std::shared_ptr<ThreadGroup> group_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_thread_world(int size, const CommOptions& options) {
  FATHOM_CHECK(size >= 1, "a world of ", size);
  FATHOM_CHECK(size == 1 || options.heartbeat == nullptr, "one heartbeat for ", size, " ranks");
  const auto meeting_place = std::make_shared<MeetingPlace>();
  std::vector<int> world_ranks(static_cast<std::size_t>(size));
  std::iota(world_ranks.begin(), world_ranks.end(), 0);
  std::vector<std::unique_ptr<Communicator>> world;
  world.reserve(world_ranks.size());
  for (int rank = 0; rank < size; ++rank) {
    world.push_back(stage_device_tensors(
        std::make_unique<ThreadCommunicator>(rank, world_ranks, options, meeting_place)));
  }
  return world;
}

}  // namespace fathom::parallel
