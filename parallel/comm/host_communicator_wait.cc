#include <sched.h>

#include <algorithm>
#include <array>
#include <thread>
#include <utility>

#include "core/error.h"
#include "parallel/comm/host_communicator.h"

// How a HostCommunicator's operations start, wait and fail; host_communicator.cc says what they
// move.
namespace fathom::parallel {
namespace {

// A rank that waits gives its core away; one that waits for long stops competing for it at all.
constexpr std::chrono::microseconds kYieldTime{2000};
constexpr std::chrono::microseconds kSleepTime{50};
constexpr std::chrono::milliseconds kReportTime{100};

// Collectives are told apart by kind and number, so that ranks out of step wait for each other
// instead of taking one message for another; messages between two ranks by their number. Numbers
// come again after 2^18 collectives or 2^22 messages, which are long over by then.
int tag_of(int kind, bool is_point_to_point, std::uint64_t number) {
  constexpr int kKindBits = 4;
  constexpr int kTagBits = 22;
  static_assert((1 << (kTagBits + 1)) - 1 == HostCommunicator::kMaxTag);
  if (is_point_to_point) {
    return (1 << kTagBits) | static_cast<int>(number & ((1U << kTagBits) - 1));
  }
  return static_cast<int>(number & ((1U << (kTagBits - kKindBits)) - 1)) << kKindBits | kind;
}

}  // namespace

const char* HostCommunicator::name_of(Operation operation) noexcept {
  static constexpr std::array<const char*, 10> kNames{
      "all_reduce", "all_reduce", "all_gather", "reduce_scatter", "broadcast",
      "all_to_all", "send",       "recv",       "barrier",        "all_gather_integers"};
  return kNames[static_cast<std::size_t>(operation)];
}

HostCommunicator::Pending HostCommunicator::begin(Operation operation, std::uint64_t number,
                                                  std::array<Tensor, 3> kept) {
  if (inherited_.has_failed->load(std::memory_order_relaxed)) {
    sends_.clear();
    receives_.clear();
    throw CommError(concat(name_of(operation), " of group ", name_, " on rank ", rank_,
                           " refused: an earlier communication of this rank failed"));
  }
  Pending pending{nullptr, operation, number, std::move(kept)};
  const bool is_point_to_point = operation == Operation::kSend || operation == Operation::kRecv;
  if (inherited_.options.heartbeat != nullptr) {
    inherited_.options.heartbeat->count_progress();
  }
  if (!sends_.empty() || !receives_.empty()) {
    pending.transfer =
        start(sends_, receives_, tag_of(static_cast<int>(operation), is_point_to_point, number));
  }
  sends_.clear();
  receives_.clear();
  return pending;
}

Work HostCommunicator::begin_work(Operation operation, std::uint64_t number,
                                  std::array<Tensor, 3> kept) {
  Pending pending = begin(operation, number, std::move(kept));
  if (pending.transfer == nullptr) {
    return {};
  }
  return Work([this, shared = std::make_shared<Pending>(std::move(pending))] { finish(*shared); });
}

void HostCommunicator::finish(Pending& pending) {
  if (pending.transfer == nullptr) {
    return;
  }
  try {
    if (!pending.transfer->is_done()) {
      wait(pending);
    }
  } catch (...) {
    inherited_.has_failed->store(true);
    const bool has_tensors = std::ranges::any_of(pending.kept, &Tensor::defined);
    if (has_tensors) {
      failed_.push_back(std::move(pending));
    } else {  // host integers, in memory that the caller gives up
      pending.transfer = nullptr;
    }
    throw;
  }
  pending.transfer = nullptr;
}

bool HostCommunicator::is_given_up() const noexcept {
  const auto& aborted = inherited_.options.aborted;
  return inherited_.has_failed->load(std::memory_order_relaxed) ||
         (aborted != nullptr && aborted->load(std::memory_order_relaxed));
}

void HostCommunicator::wait(Pending& pending) {
  using Clock = std::chrono::steady_clock;
  Heartbeat* const heartbeat = inherited_.options.heartbeat;
  if (heartbeat != nullptr) {
    heartbeat->begin_wait(name_of(pending.operation), heartbeat_name_, pending.number);
  }
  const auto start_time = Clock::now();
  auto next_report = start_time + kReportTime;
  while (!pending.transfer->is_done()) {
    const auto now = Clock::now();
    const auto waited = now - start_time;
    if (waited < inherited_.options.spin_time) {
      continue;
    }
    if (is_given_up()) {
      fail(pending, "was given up, because another rank or communication failed");
    }
    if (waited > inherited_.options.deadline) {
      fail(pending,
           concat("did not end within ", inherited_.options.deadline.count() / 1000.0, " s"));
    }
    if (heartbeat != nullptr && now > next_report) {
      const std::vector<int> missing = pending.transfer->missing_ranks();
      heartbeat->waits_for(
          missing.empty() ? -1 : world_ranks_[static_cast<std::size_t>(missing.front())]);
      next_report = now + kReportTime;
    }
    if (waited < kYieldTime) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kSleepTime);
    }
  }
  if (heartbeat != nullptr) {
    heartbeat->end_wait();
  }
}

void HostCommunicator::fail(const Pending& pending, std::string_view reason) const {
  throw CommError(concat(name_of(pending.operation), " number ", pending.number, " of group ",
                         name_, " on rank ", rank_, " of ", world_size(), ' ', reason,
                         "; missing: ", describe_ranks(pending.transfer->missing_ranks())));
}

int HostCommunicator::rank_among(std::span<const int> ranks, const std::string& group_name) const {
  int place = -1;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    FATHOM_CHECK(0 <= ranks[i] && ranks[i] < world_size() &&
                     std::count(ranks.begin(), ranks.end(), ranks[i]) == 1,
                 "group ", group_name, " of rank ", ranks[i], " of ", world_size());
    if (ranks[i] == rank_) {
      place = static_cast<int>(i);
    }
  }
  FATHOM_CHECK(place >= 0, "rank ", rank_, " makes the group ", group_name,
               " without being one of its ", ranks.size(), " ranks");
  return place;
}

std::vector<int> HostCommunicator::world_ranks_of(std::span<const int> ranks) const {
  std::vector<int> world_ranks;
  for (const int rank : ranks) {
    world_ranks.push_back(world_ranks_[static_cast<std::size_t>(rank)]);
  }
  return world_ranks;
}

std::string HostCommunicator::describe_ranks(std::span<const int> ranks) const {
  std::string text;
  for (const int rank : ranks) {
    text += concat(text.empty() ? "rank " : ", rank ", rank);
    if (const int world_rank = world_ranks_[static_cast<std::size_t>(rank)]; world_rank != rank) {
      text += concat(" (world rank ", world_rank, ')');
    }
  }
  return text.empty() ? "no rank" : text;
}

}  // namespace fathom::parallel
