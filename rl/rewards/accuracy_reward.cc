#include "rl/rewards/accuracy_reward.h"

#include "rl/verifiers/judge.h"

namespace fathom::rl {
namespace {

RewardValue score_one(const RewardInput& input, const ExtractionOptions& options) {
  std::string_view text = input.completion;
  if (options.mode == ExtractionMode::kWhole) {
    text.remove_suffix(input.num_stop_bytes);
  }
  Judgement judgement = judge(text, *input.verifier, options);
  if (judgement.verdict == Verdict::kVerifierFailed) {
    return {.value = std::nullopt, .reason = std::move(judgement.reason)};
  }
  return {.value = judgement.verdict == Verdict::kCorrect ? 1.0 : 0.0,
          .reason = std::move(judgement.reason)};
}

}  // namespace

std::vector<RewardValue> AccuracyReward::score(std::span<const RewardInput> inputs) const {
  std::vector<RewardValue> values;
  for (const RewardInput& input : inputs) {
    values.push_back(score_one(input, extraction_));
  }
  return values;
}

}  // namespace fathom::rl
