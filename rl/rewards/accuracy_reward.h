#pragma once

#include "rl/rewards/reward.h"
#include "rl/verifiers/extract.h"

namespace fathom::rl {

// 1 for the right answer, 0 for a wrong one or none; no value when the verifier has no verdict.
class AccuracyReward final : public Reward {
 public:
  explicit AccuracyReward(const ExtractionOptions& extraction) : extraction_(extraction) {}
  RewardValue score(const RewardInput& input) const override;

 private:
  ExtractionOptions extraction_;
};

}  // namespace fathom::rl
