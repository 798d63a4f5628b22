#pragma once

#include "rl/rewards/reward.h"

namespace fathom::rl {

// The scripts that are told apart. Languages of one script are not: that would take a model.
enum class Script { kLatin, kHan, kCyrillic };

// The share of words of the thoughts that are in the target script (DeepSeek-R1, arXiv:2501.12948,
// section 2.3.2). A word is a run of letters of an alphabet, or one Chinese character; digits,
// signs and formulas are none. The thoughts end at </think>; without it they are the whole
// completion. Without words the share is 0: to say nothing must not pay.
class LanguageReward final : public Reward {
 public:
  explicit LanguageReward(Script target) : target_(target) {}
  RewardValue score(const RewardInput& input) const override;

 private:
  Script target_;
};

}  // namespace fathom::rl
