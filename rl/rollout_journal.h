#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "rl/rewards/reward.h"
#include "trainer/generation/sequence.h"

namespace fathom::rl {

// A group of a rollout in flight.
struct GroupProgress {
  std::vector<trainer::Completion> completions;  // so far, by sample
  std::vector<Score> scores;                     // by sample; empty: the group is not scored yet
};

// What an earlier life of the run has left of a step.
struct RolloutProgress {
  std::map<std::int64_t, GroupProgress> groups;  // by number in the step, from 0
  std::int64_t num_left_aside = 0;               // groups on disk that are of no use
};

// What a rollout must have in common with the one that is on disk, to go on with it.
struct RolloutIdentity {
  std::uint64_t start = 0;   // hash of the run's state as the step began
  std::string choices = {};  // the config that samples and scores depend on
  std::int64_t group_size = 0;
};

// Rollouts in flight on disk, a file a group, FOLDER/step-NNNNNNNN/group-NNNNNNNN.pb: a run that
// dies goes on sampling where it was, and verdicts that were written are not asked for again; those
// that are missing are. The folder is on a file system that all ranks see.
class RolloutJournal {
 public:
  RolloutJournal(std::filesystem::path folder, parallel::Communicator& world);

  // What is written of this step, the same on all ranks. A group is left aside when it is of other
  // weights or choices, damaged, scored in part, or has other than group_size samples; all are when
  // ranks read different ones. Collective, each rank reads all files. Throws the same IoError on
  // every rank when a file cannot be read.
  RolloutProgress load(std::int64_t step, const RolloutIdentity& identity) const;
  // Writes the groups of these numbers, each replaced atomically by one rank, number % world_size,
  // which asks `progress_of` for it. Others stay as they are. Collective, with the same numbers on
  // all ranks. Throws the same IoError on every rank.
  void write(std::int64_t step, const RolloutIdentity& identity,
             std::span<const std::int64_t> numbers,
             const std::function<GroupProgress(std::int64_t number)>& progress_of) const;
  // Removes the rollouts of the steps up to this one, for which a checkpoint stands in; what is no
  // file of a journal stays, and so does what cannot be removed. By rank 0; the others do not wait.
  void forget(std::int64_t step) const;

 private:
  std::filesystem::path folder_of(std::int64_t step) const;

  std::filesystem::path folder_;
  parallel::Communicator* world_;
};

}  // namespace fathom::rl
