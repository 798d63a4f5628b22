#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "parallel/comm/communicator.h"
#include "tests/trainer/drawn_run.h"

namespace fathom::testing {

// All that a run says of itself and that no layout may change, by name, in the order in which it
// came about: losses, gradient norms, a hash of each tensor's gradient and value each step, the
// hash of all state at the end, completions, likelihoods.
using RunRecord = std::vector<std::pair<std::string, std::string>>;

struct RecordOptions {
  // The first steps are taken on this layout, the others on the run's own after a checkpoint.
  const DrawnLayout* begins_on = nullptr;
  std::int64_t resume_step = 0;
  // For tests that break it: the communicator that the run gets instead of that of all ranks, and
  // what is added to a rank's seed.
  std::function<std::unique_ptr<parallel::Communicator>(parallel::Communicator&)> wrap;
  std::function<std::uint64_t(int rank)> seed_of_rank;
};

// Trains on the layout, then samples the prompts and scores what was sampled. Throws what the run
// throws, and InternalError where a log-probability is not minus the loss of the training forward.
RunRecord take_run(const DrawnLayout& layout, const std::vector<trainer::Prompt>& prompts,
                   const RecordOptions& options = {});

// The first entry in which two records differ, empty when there is none.
std::string difference(const RunRecord& want, const RunRecord& found);

}  // namespace fathom::testing
