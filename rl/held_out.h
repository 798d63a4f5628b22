#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rl/problems/problem.h"
#include "rl/rewards/reward.h"
#include "rl/sample_statistics.h"
#include "trainer/metrics.h"

namespace fathom::rl {

// What a run is measured on: the problems of grpo.held_out.
struct HeldOutProblems {
  std::vector<Problem> problems;            // of all sources, in order; each id once
  std::vector<std::int64_t> num_of_source;  // problems
};

// What completions of held-out problems are worth, by sample, a problem's back to back.
struct HeldOutValues {
  std::int64_t num_samples = 1;  // of each problem
  std::vector<Score> scores;     // of the run's rewards
  // 1 for a right answer, 0 for a wrong one. Empty where accuracy is none of the run's rewards:
  // what it does not ask for it is not measured by.
  std::vector<std::optional<double>> solved;
};

// Means over problems, with their standard errors, of the run's reward, of each part and of
// `solved`: "reward_mean", "reward_<name>", "solve_rate", and the first and last of these for each
// source where there are several: "solve_rate_held_out_1". What no sample has a value of is left
// out. names: of the rewards.
std::vector<trainer::Metric> to_metrics(const HeldOutValues& values,
                                        const HeldOutProblems& problems,
                                        const std::vector<std::string>& names);

// For people: "62.5% solved (+- 4.3), reward 0.81".
std::string describe(const HeldOutValues& values);

}  // namespace fathom::rl
