#include "rl/rewards/accuracy_reward.h"

#include <string_view>
#include <utility>

#include "rl/verifiers/judge.h"

namespace fathom::rl {

RewardValue AccuracyReward::score(const RewardInput& input) const {
  std::string_view text = input.completion;
  if (extraction_.mode == ExtractionMode::kWhole) {
    text.remove_suffix(input.num_stop_bytes);
  }
  Judgement judgement = judge(text, *input.verifier, extraction_);
  return {.value = judgement.verdict == Verdict::kCorrect ? 1.0 : 0.0,
          .reason = std::move(judgement.reason)};
}

}  // namespace fathom::rl
