#include "rl/rewards/reward.h"

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

std::vector<Score> WeightedRewards::score(std::span<const RewardInput> inputs) const {
  std::vector<Score> scores(inputs.size(), {.total = 0.0, .parts = {}});
  for (const WeightedReward& reward : rewards_) {
    std::vector<RewardValue> values = reward.reward->score(inputs);
    FATHOM_CHECK(values.size() == inputs.size(), reward.name, ": ", values.size(), " values for ",
                 inputs.size(), " completions");
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      std::optional<double>& total = scores[i].total;
      if (reward.weight != 0) {
        total = total && values[i].value ? std::optional(*total + reward.weight * *values[i].value)
                                         : std::nullopt;
      }
      scores[i].parts.push_back(std::move(values[i]));
    }
  }
  return scores;
}

}  // namespace fathom::rl
