#include "rl/advantages.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fathom::rl {
namespace {

using Rewards = std::span<const std::optional<double>>;

bool rewards_differ(Rewards rewards) {
  const std::optional<double>* first = nullptr;
  for (const std::optional<double>& reward : rewards) {
    if (!reward) {
      continue;
    }
    FATHOM_CHECK(std::isfinite(*reward), "a reward of ", *reward);
    if (first != nullptr && *reward != **first) {
      return true;
    }
    first = &reward;
  }
  return false;
}

struct Moments {
  double mean = 0;
  double std = 0;
};

Moments moments_of(Rewards rewards) {
  double sum = 0;
  double count = 0;
  for (const std::optional<double>& reward : rewards) {
    sum += reward.value_or(0.0);
    count += reward ? 1 : 0;
  }
  const double mean = sum / count;
  double squares = 0;
  for (const std::optional<double>& reward : rewards) {
    const double deviation = reward ? *reward - mean : 0.0;
    squares += deviation * deviation;
  }
  return {.mean = mean, .std = std::sqrt(squares / count)};
}

}  // namespace

GroupAdvantages group_advantages(std::span<const std::optional<double>> rewards,
                                 const AdvantageOptions& options) {
  if (options.group_size < 2) {
    throw ConfigError(concat("a group of ", options.group_size,
                             " samples a prompt: advantages compare samples of one prompt, so "
                             "that at least 2 are needed"));
  }
  const auto group_size = static_cast<std::size_t>(options.group_size);
  FATHOM_CHECK(rewards.size() % group_size == 0, rewards.size(), " rewards in groups of ",
               group_size);
  GroupAdvantages advantages;
  advantages.values.resize(rewards.size(), 0.0);
  for (std::size_t begin = 0; begin < rewards.size(); begin += group_size) {
    const Rewards group = rewards.subspan(begin, group_size);
    const bool has_spread = rewards_differ(group);
    advantages.has_spread.push_back(has_spread);
    if (!has_spread) {
      continue;
    }
    const Moments moments = moments_of(group);
    for (std::size_t i = 0; i < group_size; ++i) {
      if (group[i]) {
        const double centred = *group[i] - moments.mean;
        advantages.values[begin + i] = options.divide_by_std ? centred / moments.std : centred;
      }
    }
  }
  return advantages;
}

}  // namespace fathom::rl
