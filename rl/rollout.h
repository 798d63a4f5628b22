#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rl/problems/problem.h"
#include "rl/rewards/reward.h"
#include "trainer/generation/sequence.h"
#include "trainer/generation/text.h"

namespace fathom::rl {

// A completion and what it is worth.
struct RolloutSample {
  trainer::Completion completion;
  Score score;  // score.total: nothing without a verdict
  double advantage = 0;
};

// The samples of one problem.
struct RolloutGroup {
  Problem problem;
  std::int32_t source = 0;           // of the problem: ProblemStream::source_at()
  std::vector<std::int32_t> prompt;  // tokens
  std::vector<RolloutSample> samples;
  bool has_spread = false;  // rewards differ
  bool is_kept = false;     // goes into the updates: dynamic sampling leaves groups out
};

// What a step learns from, in the order in which problems were drawn. The same on all ranks.
struct Rollout {
  std::vector<RolloutGroup> groups;
  int num_rounds = 0;  // times that were sampled: above 1 with dynamic sampling alone
  // Drawn by a life of the run that ended before the step did.
  std::int64_t num_resumed_samples = 0;
  std::int64_t num_resumed_tokens = 0;
  std::int64_t num_groups_left_aside = 0;  // of such a life, but of no use
};

}  // namespace fathom::rl
