#include <algorithm>

#include "core/error.h"
#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {
namespace {

// Groups of num_ranks micro-batches, each through all stages of the rank.
std::vector<Action> actions_of_rank(int rank, int num_ranks, int num_stages,
                                    int num_micro_batches) {
  std::vector<Action> actions;
  for (int group = 0; group < num_micro_batches; group += num_ranks) {
    for (int stage = rank; stage < num_stages; stage += num_ranks) {
      for (int i = group; i < std::min(group + num_ranks, num_micro_batches); ++i) {
        actions.push_back({.kind = ActionKind::kForward, .stage = stage, .micro_batch = i});
      }
    }
  }
  return actions;
}

}  // namespace

Schedule forward_only(int num_ranks, int stages_per_rank, int num_micro_batches) {
  if (num_ranks < 1 || stages_per_rank < 1 || num_micro_batches < 1) {
    throw ConfigError(concat("forward schedule: ", num_ranks, " pipeline ranks, ", stages_per_rank,
                             " stages a rank and ", num_micro_batches,
                             " micro-batches; each must be at least 1"));
  }
  Schedule schedule{.num_stages = num_ranks * stages_per_rank,
                    .num_micro_batches = num_micro_batches,
                    .rank_of_stage = {{}},
                    .actions = {}};
  for (int stage = 0; stage < schedule.num_stages; ++stage) {
    schedule.rank_of_stage[0].push_back(stage % num_ranks);
  }
  for (int rank = 0; rank < num_ranks; ++rank) {
    schedule.actions.push_back(
        actions_of_rank(rank, num_ranks, schedule.num_stages, num_micro_batches));
  }
  return schedule;
}

}  // namespace fathom::parallel
