#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rl/problems/problem.h"
#include "rl/rewards/reward.h"
#include "trainer/generation/sequence.h"
#include "trainer/metrics.h"

namespace fathom::rl {

// What a run is measured on: the problems of grpo.held_out.
struct HeldOutProblems {
  std::vector<Problem> problems;            // of all sources, in order; each id once
  std::vector<std::int64_t> num_of_source;  // problems
};

// Completions of held-out problems, a problem's back to back, and what they are worth.
struct HeldOutSamples {
  std::int64_t num_of_problem = 1;
  std::vector<trainer::Completion> completions;
  std::vector<Score> scores;  // of each, by the run's rewards
  // The reward that is 1 for a right answer and 0 for a wrong one. Nothing where accuracy is none
  // of the run's rewards: what it does not ask for it is not measured by.
  std::optional<std::size_t> accuracy;

  double mean_length() const;  // tokens
};

// Means over problems, with their standard errors, of the run's reward, of each part and of
// accuracy: "reward_mean", "reward_<name>", "solve_rate", and the first and last of these for each
// source where there are several: "solve_rate_held_out_1". What no sample has a value of is left
// out. names: of the rewards. And over samples: "eval_problems", "eval_without_verdict",
// "eval_length_mean", "eval_truncated_share".
std::vector<trainer::Metric> to_metrics(const HeldOutSamples& samples,
                                        const HeldOutProblems& problems,
                                        const std::vector<std::string>& names);

// For people: "62.5% solved (+- 4.3), reward 0.81, 93.2 tokens".
std::string describe(const HeldOutSamples& samples);

}  // namespace fathom::rl
