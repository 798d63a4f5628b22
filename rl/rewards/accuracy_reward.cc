#include "rl/rewards/accuracy_reward.h"

#include "core/error.h"

namespace fathom::rl {
namespace {

RewardValue score_one(const RewardInput& input, const ExtractionOptions& options) {
  const std::optional<Extraction> extraction = extract_answer(input.completion, options);
  if (!extraction) {
    return {.value = 0.0, .reason = "no answer"};
  }
  const Verification verification = input.verifier->verify(extraction->answer);
  std::string reason = concat(extraction->rule, ": ", verification.reason);
  if (verification.verdict == Verdict::kVerifierFailed) {
    return {.value = std::nullopt, .reason = std::move(reason)};
  }
  return {.value = verification.verdict == Verdict::kCorrect ? 1.0 : 0.0,
          .reason = std::move(reason)};
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
