#pragma once

#include "rl/rewards/reward.h"

namespace fathom::rl {

// 1 when the completion is <think>...</think><answer>...</answer>, each tag there exactly once and
// nothing but white space around the two; else 0. The template of DeepSeek-R1-Zero,
// arXiv:2501.12948, table 1.
class FormatReward final : public Reward {
 public:
  // thinking_is_open: the prompt ends with <think>, so that the completion begins within it.
  explicit FormatReward(bool thinking_is_open) : thinking_is_open_(thinking_is_open) {}
  RewardValue score(const RewardInput& input) const override;

 private:
  bool thinking_is_open_;
};

}  // namespace fathom::rl
