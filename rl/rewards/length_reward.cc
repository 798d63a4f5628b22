#include "rl/rewards/length_reward.h"

#include <algorithm>

#include "core/error.h"

namespace fathom::rl {

LengthReward::LengthReward(std::int64_t max_tokens, std::int64_t cache_tokens)
    : max_tokens_(max_tokens), cache_tokens_(cache_tokens) {
  if (cache_tokens <= 0 || cache_tokens > max_tokens) {
    throw ConfigError(concat("length reward: cache_tokens (", cache_tokens,
                             "), over which the penalty grows, must be above 0 and at most ",
                             "max_tokens (", max_tokens, ")"));
  }
}

RewardValue LengthReward::score(const RewardInput& input) const {
  const std::int64_t excess =
      std::clamp<std::int64_t>(input.num_tokens - (max_tokens_ - cache_tokens_), 0, cache_tokens_);
  // 0 - x: a completion without excess gets 0, not -0.
  return {.value = 0.0 - static_cast<double>(excess) / static_cast<double>(cache_tokens_),
          .reason = concat(input.num_tokens, " tokens")};
}

}  // namespace fathom::rl
