#include "rl/rewards/reward.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "core/error.h"

namespace fathom::rl {

WeightedRewards::WeightedRewards(std::vector<WeightedReward> rewards)
    : rewards_(std::move(rewards)) {
  if (rewards_.empty()) {
    throw ConfigError("no reward is given: there is nothing to learn from");
  }
  std::set<std::string> names;
  bool is_any_weighted = false;
  for (const WeightedReward& reward : rewards_) {
    if (reward.name.empty() || !names.insert(reward.name).second) {
      throw ConfigError(concat("reward \"", reward.name,
                               "\": each reward needs a name of its own, for its column"));
    }
    if (!std::isfinite(reward.weight)) {
      throw ConfigError(
          concat("reward \"", reward.name, "\": weight ", reward.weight, ", want a finite number"));
    }
    is_any_weighted = is_any_weighted || reward.weight != 0;
  }
  if (!is_any_weighted) {
    throw ConfigError("all rewards have weight 0: there is nothing to learn from");
  }
}

std::vector<std::string> WeightedRewards::names() const {
  std::vector<std::string> names;
  for (const WeightedReward& reward : rewards_) {
    names.push_back(reward.name);
  }
  return names;
}

int WeightedRewards::num_at_once() const {
  int most = 1;
  for (const WeightedReward& reward : rewards_) {
    most = std::max(most, reward.reward->num_at_once());
  }
  return most;
}

Score WeightedRewards::score(const RewardInput& input) const {
  Score score{.total = 0.0, .parts = {}};
  for (const WeightedReward& reward : rewards_) {
    RewardValue& part = score.parts.emplace_back(reward.reward->score(input));
    if (reward.weight == 0) {
      continue;
    }
    score.total = score.total && part.value
                      ? std::optional(*score.total + reward.weight * *part.value)
                      : std::nullopt;
    if (score.total && !std::isfinite(*score.total)) {
      score.total = std::nullopt;
      part.reason += concat("; with weight ", reward.weight, " the sum is not finite: no verdict");
    }
  }
  return score;
}

}  // namespace fathom::rl
