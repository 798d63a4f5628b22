#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "rl/rewards/reward.h"
#include "trainer/generation/sequence.h"

namespace fathom::rl {

// A sample of a rollout in flight.
struct SampleProgress {
  trainer::Completion completion;  // so far
  std::optional<Score> score;      // of a whole one
};
// By group in the order in which problems were drawn, and by sample of the group.
using RolloutProgress = std::map<std::pair<std::int64_t, std::int64_t>, SampleProgress>;

// What a rollout must have in common with the one that is on disk, to go on with it.
struct RolloutIdentity {
  std::uint64_t start = 0;   // hash of the run's state as the step began
  std::string choices = {};  // the config that samples and scores depend on
  std::int64_t group_size = 0;
};

// Rollouts in flight on disk, FOLDER/step-NNNNNNNN.pb: a run that dies goes on sampling where it
// was, and verdicts that depended on the clock are not asked for again. All functions are
// collective; rank 0 alone reads and writes.
class RolloutJournal {
 public:
  RolloutJournal(std::filesystem::path folder, parallel::Communicator& world);

  // What an earlier life of the run has written of this step; nothing when that is of other weights
  // or choices, damaged or not there. The same on all ranks.
  RolloutProgress load(std::int64_t step, const RolloutIdentity& identity) const;
  // Replaces what was there, atomically. Throws the same IoError on every rank.
  void write(std::int64_t step, const RolloutIdentity& identity,
             const RolloutProgress& progress) const;
  // Removes the rollouts up to a step, for which a checkpoint stands in.
  void forget(std::int64_t step) const;

 private:
  std::filesystem::path path_of(std::int64_t step) const;

  std::filesystem::path folder_;
  parallel::Communicator* world_;
};

// Collective: what rank 0 gives, on every rank.
std::vector<Score> broadcast_scores(const std::vector<Score>& scores,
                                    parallel::Communicator& world);

}  // namespace fathom::rl
