#include <algorithm>

#include "core/error.h"
#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {
namespace {

// The i-th forward (or backward) of a rank: groups of num_ranks micro-batches pass through the
// rank's first stage, then its second, and so on; backwards take the stages from the last.
Action nth_action(ActionKind kind, int i, int rank, int num_ranks, int stages_per_rank) {
  const int group_size = num_ranks * stages_per_rank;
  const int place = i % group_size;
  const int turn = place / num_ranks;
  const int stage_on_rank = kind == ActionKind::kForward ? turn : stages_per_rank - 1 - turn;
  return {.kind = kind,
          .stage = stage_on_rank * num_ranks + rank,
          .micro_batch = i / group_size * num_ranks + place % num_ranks};
}

}  // namespace

Schedule interleaved_one_forward_one_backward(int num_ranks, int stages_per_rank,
                                              int num_micro_batches) {
  if (num_ranks < 1 || stages_per_rank < 1 || num_micro_batches < 1) {
    throw ConfigError(concat("interleaved schedule: ", num_ranks, " pipeline ranks, ",
                             stages_per_rank, " stages a rank and ", num_micro_batches,
                             " micro-batches; each must be at least 1"));
  }
  if (stages_per_rank == 1) {
    return one_forward_one_backward(num_ranks, num_micro_batches);
  }
  if (num_micro_batches % num_ranks != 0) {
    throw ConfigError(concat("interleaved schedule: the number of micro-batches (",
                             num_micro_batches, ") is not a multiple of the pipeline ranks (",
                             num_ranks, ")"));
  }
  Schedule schedule{.num_stages = num_ranks * stages_per_rank,
                    .num_micro_batches = num_micro_batches,
                    .rank_of_stage = {{}},
                    .actions = {}};
  for (int stage = 0; stage < schedule.num_stages; ++stage) {
    schedule.rank_of_stage[0].push_back(stage % num_ranks);
  }
  const int num_forwards = num_micro_batches * stages_per_rank;
  for (int rank = 0; rank < num_ranks; ++rank) {
    std::vector<Action> actions;
    // Twice the ranks behind this one, because a backward comes back through all of them before the
    // next forward of this rank's next stage; plus the groups that must have gone through the
    // earlier stages.
    const int num_warm_up =
        std::min(2 * (num_ranks - 1 - rank) + (stages_per_rank - 1) * num_ranks, num_forwards);
    for (int i = 0; i < num_forwards + num_warm_up; ++i) {
      if (i < num_forwards) {
        actions.push_back(nth_action(ActionKind::kForward, i, rank, num_ranks, stages_per_rank));
      }
      if (i >= num_warm_up) {
        actions.push_back(
            nth_action(ActionKind::kBackward, i - num_warm_up, rank, num_ranks, stages_per_rank));
      }
    }
    schedule.actions.push_back(std::move(actions));
  }
  return schedule;
}

}  // namespace fathom::parallel
