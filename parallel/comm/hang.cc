#include "parallel/comm/hang.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "core/error.h"

namespace fathom::parallel {
namespace {

// A line stays readable; the file beside it lists all ranks.
constexpr std::size_t kMaxNamed = 8;

enum class Condition { kUnknown, kEnded, kStopped, kMoves, kBusy, kWaits };

Condition condition_of(const RankSighting& sighting, std::chrono::milliseconds deadline) {
  if (!sighting.after.has_value()) {
    return Condition::kUnknown;
  }
  const HeartbeatRecord& now = *sighting.after;
  if (now.has_ended) {
    return Condition::kEnded;
  }
  if (sighting.before.has_value() && sighting.before->beat == now.beat) {
    return Condition::kStopped;
  }
  if (now.idle_ms < deadline.count()) {
    return Condition::kMoves;
  }
  return now.is_waiting ? Condition::kWaits : Condition::kBusy;
}

std::string where(const HeartbeatRecord& record) {
  return concat("at step ", record.step, " in '", record.phase, "'");
}

std::string wait_of(const HeartbeatRecord& record) {
  std::string text =
      concat(record.operation, " number ", record.number, " of group ", record.group);
  if (record.waits_for >= 0) {
    text += concat(" for rank ", record.waits_for);
  }
  return text;
}

std::string describe(const HeartbeatRecord& record, Condition condition) {
  const std::string who =
      concat("rank ", record.rank, " (", record.host, ", pid ", record.pid, ") ");
  switch (condition) {
    case Condition::kStopped:
      return concat(who, "stopped answering, last seen ", where(record),
                    record.is_waiting ? ", in " + wait_of(record) : "");
    case Condition::kBusy:
      return concat(who, "is stuck ", where(record), ", outside any communication");
    default:
      return concat("rank ", record.rank, " waits ", where(record), ", in ", wait_of(record));
  }
}

class Hang {
 public:
  Hang(std::span<const RankSighting> sightings, std::chrono::milliseconds deadline)
      : sightings_(sightings) {
    for (const RankSighting& sighting : sightings) {
      conditions_.push_back(condition_of(sighting, deadline));
    }
  }

  std::size_t count(Condition condition) const {
    return static_cast<std::size_t>(std::count(conditions_.begin(), conditions_.end(), condition));
  }

  // The ranks in that condition, up to `limit` of them.
  std::string list(Condition condition, std::size_t limit) const {
    std::string text;
    std::size_t num_listed = 0;
    for (std::size_t rank = 0; rank < sightings_.size() && num_listed < limit; ++rank) {
      if (conditions_[rank] == condition) {
        text += concat("; ", describe(*sightings_[rank].after, condition));
        ++num_listed;
      }
    }
    if (const std::size_t total = count(condition); total > num_listed && limit == kMaxNamed) {
      text += concat("; and ", total - num_listed, " more");
    }
    return text;
  }

  std::string list_without_record() const {
    std::string text;
    for (std::size_t rank = 0; rank < sightings_.size(); ++rank) {
      if (conditions_[rank] == Condition::kEnded) {
        text += concat("; rank ", rank, " has ended");
      } else if (conditions_[rank] == Condition::kUnknown) {
        text += concat("; rank ", rank, " left no heartbeat");
      }
    }
    return text;
  }

 private:
  std::span<const RankSighting> sightings_;
  std::vector<Condition> conditions_;
};

}  // namespace

std::optional<std::string> describe_hang(std::span<const RankSighting> sightings,
                                         std::chrono::milliseconds deadline) {
  const Hang hang(sightings, deadline);
  if (hang.count(Condition::kMoves) > 0) {
    return std::nullopt;
  }
  std::string line =
      concat("hang: no progress for ", static_cast<double>(deadline.count()) / 1000.0, " s");
  const std::string stopped = hang.list(Condition::kStopped, kMaxNamed);
  const std::string busy = hang.list(Condition::kBusy, kMaxNamed);
  line += hang.list_without_record();
  if (!stopped.empty()) {
    return line + stopped + hang.list(Condition::kWaits, 1);
  }
  if (!busy.empty()) {
    return line + busy + hang.list(Condition::kWaits, 1);
  }
  return line + "; ranks wait for each other" + hang.list(Condition::kWaits, kMaxNamed);
}

}  // namespace fathom::parallel
