#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace fathom::rl {

struct AdvantageOptions {
  std::int64_t group_size = 0;  // samples a prompt, G
  bool divide_by_std = true;    // GRPO; false: Dr. GRPO (arXiv:2503.20783) and DeepSeek-V3.2
};

struct GroupAdvantages {
  std::vector<double> values;    // [num_prompts * group_size]; 0 for a sample without a reward
  std::vector<bool> has_spread;  // [num_prompts]; a group without teaches nothing
};

// Whether the largest and the smallest reward r are further apart than 1e-9 max(1, |r|): closer
// ones are equal but for the rounding of weighted sums, as 0.1 + 0.2 and 0.3. Throws InternalError
// for one that is not finite.
bool have_spread(std::span<const std::optional<double>> rewards);

// Over the rewards of a prompt (GRPO, arXiv:2402.03300, sec. 4.1.2):
//   A_i = (r_i - mean r) / std r
//   rewards  [num_prompts * group_size], a prompt's samples back to back; nothing: no verdict
// The standard deviation is that of the population (divided by the number of rewards; the paper
// leaves it open), without an epsilon: a group without spread has advantages of exactly 0, so that
// nothing can move. Samples without a reward are no part of their group. Sums in double, in the
// order of the samples. Throws ConfigError for a group size below 2, as a sample alone has no other
// to be better than; InternalError for another number of rewards than whole groups, and for one
// that is not finite.
GroupAdvantages group_advantages(std::span<const std::optional<double>> rewards,
                                 const AdvantageOptions& options);

}  // namespace fathom::rl
