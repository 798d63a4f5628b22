#include "parallel/comm/thread_communicator.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>

#include "core/error.h"

namespace fathom::parallel {
namespace {

// What a rank offers to another: valid until it is taken or withdrawn.
struct Offer {
  int tag = 0;
  Message message;
  std::atomic<bool> is_taken{false};
};

// The offers of one rank to one other. The lock is held during the copy, so a withdrawn offer is
// not being read.
struct Mailbox {
  std::mutex mutex;
  std::vector<std::shared_ptr<Offer>> offers;
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
      : group_(std::move(group)),
        rank_(rank),
        tag_(tag),
        receives_(receives.begin(), receives.end()) {
    for (const Message& message : sends) {
      auto offer = std::make_shared<Offer>();
      offer->tag = tag;
      offer->message = message;
      sends_.push_back(offer);
      Mailbox& mailbox = group_->mailbox(rank_, message.rank);
      const std::lock_guard lock(mailbox.mutex);
      mailbox.offers.push_back(std::move(offer));
    }
  }

  ~ThreadTransfer() override {
    for (const auto& offer : sends_) {
      if (!offer->is_taken.load(std::memory_order_acquire)) {
        Mailbox& mailbox = group_->mailbox(rank_, offer->message.rank);
        const std::lock_guard lock(mailbox.mutex);
        std::erase(mailbox.offers, offer);
      }
    }
  }
  ThreadTransfer(const ThreadTransfer&) = delete;
  ThreadTransfer& operator=(const ThreadTransfer&) = delete;

  bool is_done() override {
    std::erase_if(receives_, [this](const Message& message) { return take(message); });
    return receives_.empty() && std::all_of(sends_.begin(), sends_.end(), [](const auto& offer) {
             return offer->is_taken.load(std::memory_order_acquire);
           });
  }

  std::vector<int> missing_ranks() const override {
    std::vector<int> ranks;
    for (const Message& message : receives_) {
      ranks.push_back(message.rank);
    }
    for (const auto& offer : sends_) {
      if (!offer->is_taken.load(std::memory_order_acquire)) {
        ranks.push_back(offer->message.rank);
      }
    }
    std::sort(ranks.begin(), ranks.end());
    ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
    return ranks;
  }

 private:
  bool take(const Message& message) {
    Mailbox& mailbox = group_->mailbox(message.rank, rank_);
    const std::lock_guard lock(mailbox.mutex);
    const auto found = std::find_if(mailbox.offers.begin(), mailbox.offers.end(),
                                    [this](const auto& offer) { return offer->tag == tag_; });
    if (found == mailbox.offers.end()) {
      return false;
    }
    Offer& offer = **found;
    if (offer.message.bytes != message.bytes) {
      throw CommError(concat("rank ", rank_, " expects ", message.bytes, " bytes from rank ",
                             message.rank, ", which sends ", offer.message.bytes));
    }
    std::memcpy(message.data, offer.message.data, static_cast<std::size_t>(message.bytes));
    offer.is_taken.store(true, std::memory_order_release);
    mailbox.offers.erase(found);  // the sender holds it, too
    return true;
  }

  std::shared_ptr<ThreadGroup> group_;
  int rank_;
  int tag_;
  std::vector<std::shared_ptr<Offer>> sends_;
  std::vector<Message> receives_;
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
  for (int rank = 0; rank < size; ++rank) {
    world.push_back(
        std::make_unique<ThreadCommunicator>(rank, world_ranks, options, meeting_place));
  }
  return world;
}

}  // namespace fathom::parallel
