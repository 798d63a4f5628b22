#include "rl/advantages.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace fathom::rl {
namespace {

using Rewards = std::span<const std::optional<double>>;

constexpr double kRounding = 1e-9;     // far above that of a sum, far below what rewards tell apart
constexpr int kLargestExponent = 300;  // of rewards whose squares may be added up as they are

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  double magnitude() const { return std::max(std::abs(low), std::abs(high)); }
};

Range range_of(Rewards rewards) {
  Range range;
  for (const std::optional<double>& reward : rewards) {
    if (!reward) {
      continue;
    }
    FATHOM_CHECK(std::isfinite(*reward), "a reward of ", *reward);
    range.low = std::min(range.low, *reward);
    range.high = std::max(range.high, *reward);
  }
  return range;
}

bool is_wide(const Range& range) {
  // Half of each: the difference of two finite numbers may be none.
  return range.high / 2 - range.low / 2 > kRounding / 2 * std::max(1.0, range.magnitude());
}

// A power of two, 1 for all but huge rewards, with which squares and sums stay finite.
double scale_of(const Range& range) {
  const int exponent = std::ilogb(std::max(1.0, range.magnitude()));
  return exponent <= kLargestExponent ? 1.0 : std::ldexp(1.0, -exponent);
}

struct Moments {
  double mean = 0;
  double std = 0;
};

// Of the rewards x scale.
Moments moments_of(Rewards rewards, double scale) {
  double sum = 0;
  double count = 0;
  for (const std::optional<double>& reward : rewards) {
    sum += scale * reward.value_or(0.0);
    count += reward ? 1 : 0;
  }
  const double mean = sum / count;
  double squares = 0;
  for (const std::optional<double>& reward : rewards) {
    const double deviation = reward ? scale * *reward - mean : 0.0;
    squares += deviation * deviation;
  }
  return {.mean = mean, .std = std::sqrt(squares / count)};
}

}  // namespace

bool have_spread(Rewards rewards) { return is_wide(range_of(rewards)); }

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
    const Range range = range_of(group);
    advantages.has_spread.push_back(is_wide(range));
    if (!is_wide(range)) {
      continue;
    }
    const double scale = scale_of(range);
    const Moments moments = moments_of(group, scale);
    for (std::size_t i = 0; i < group_size; ++i) {
      if (group[i]) {
        const double centred = scale * *group[i] - moments.mean;
        advantages.values[begin + i] =
            options.divide_by_std ? centred / moments.std : centred / scale;
      }
    }
  }
  return advantages;
}

}  // namespace fathom::rl
