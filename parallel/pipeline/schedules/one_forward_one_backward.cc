#include <algorithm>

#include "core/error.h"
#include "parallel/pipeline/schedule.h"

namespace fathom::parallel {

Schedule one_forward_one_backward(int num_ranks, int num_micro_batches) {
  if (num_ranks < 1 || num_micro_batches < 1) {
    throw ConfigError(concat("1F1B schedule: ", num_ranks, " pipeline ranks and ",
                             num_micro_batches, " micro-batches; both must be at least 1"));
  }
  Schedule schedule{.num_stages = num_ranks,
                    .num_micro_batches = num_micro_batches,
                    .rank_of_stage = {{}},
                    .actions = {}};
  for (int rank = 0; rank < num_ranks; ++rank) {
    schedule.rank_of_stage[0].push_back(rank);
    std::vector<Action> actions;
    // Each rank runs ahead by the number of stages behind it, then alternates, then drains.
    const int num_warm_up = std::min(num_ranks - 1 - rank, num_micro_batches);
    for (int i = 0; i < num_micro_batches + num_warm_up; ++i) {
      if (i < num_micro_batches) {
        actions.push_back({.kind = ActionKind::kForward, .stage = rank, .micro_batch = i});
      }
      if (i >= num_warm_up) {
        actions.push_back(
            {.kind = ActionKind::kBackward, .stage = rank, .micro_batch = i - num_warm_up});
      }
    }
    schedule.actions.push_back(std::move(actions));
  }
  return schedule;
}

}  // namespace fathom::parallel
