#pragma once

#include "rl/rewards/reward.h"

namespace fathom::rl {

// The soft penalty for long completions of y tokens (DAPO, arXiv:2503.14476, eq. 13):
//   0                                     y <= max_tokens - cache_tokens
//   (max_tokens - cache_tokens - y) / cache_tokens      up to max_tokens
//   -1                                    beyond
class LengthReward final : public Reward {
 public:
  // Throws ConfigError unless 0 < cache_tokens <= max_tokens.
  LengthReward(std::int64_t max_tokens, std::int64_t cache_tokens);
  RewardValue score(const RewardInput& input) const override;

 private:
  std::int64_t max_tokens_;
  std::int64_t cache_tokens_;
};

}  // namespace fathom::rl
