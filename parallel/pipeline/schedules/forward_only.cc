#include "core/error.h"
#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {

Schedule forward_only(int num_ranks, int stages_per_rank, int num_micro_batches) {
  FATHOM_CHECK(num_ranks > 0 && stages_per_rank > 0 && num_micro_batches > 0, num_ranks,
               " ranks, ", stages_per_rank, " stages a rank, ", num_micro_batches,
               " micro-batches");
  Schedule schedule{.num_stages = num_ranks * stages_per_rank,
                    .num_micro_batches = num_micro_batches,
                    .rank_of_stage = {{}},
                    .actions = {}};
  for (int stage = 0; stage < schedule.num_stages; ++stage) {
    schedule.rank_of_stage[0].push_back(stage % num_ranks);
  }
  for (int rank = 0; rank < num_ranks; ++rank) {
    std::vector<Action> actions;
    for (int micro_batch = 0; micro_batch < num_micro_batches; ++micro_batch) {
      for (int stage = rank; stage < schedule.num_stages; stage += num_ranks) {
        actions.push_back(
            {.kind = ActionKind::kForward, .stage = stage, .micro_batch = micro_batch});
      }
    }
    schedule.actions.push_back(std::move(actions));
  }
  return schedule;
}

}  // namespace fathom::parallel
