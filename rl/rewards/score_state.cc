#include "rl/rewards/score_state.h"

#include <optional>
#include <string>

#include "configs/schema/rollout_state.pb.h"
#include "core/error.h"
#include "parallel/comm/gather_bytes.h"

namespace fathom::rl {

void to_message(const Score& score, ScoreState& state) {
  if (score.total) {
    state.set_total(*score.total);
  }
  for (const RewardValue& part : score.parts) {
    PartState& added = *state.add_parts();
    if (part.value) {
      added.set_value(*part.value);
    }
    added.set_reason(part.reason);
  }
}

Score from_message(const ScoreState& state) {
  Score score;
  score.total = state.has_total() ? std::optional(state.total()) : std::nullopt;
  for (const PartState& part : state.parts()) {
    score.parts.push_back(
        {part.has_value() ? std::optional(part.value()) : std::nullopt, part.reason()});
  }
  return score;
}

std::vector<std::vector<Score>> all_gather_scores(std::span<const Score> mine,
                                                  parallel::Communicator& world) {
  ScoreStates states;
  for (const Score& score : mine) {
    to_message(score, *states.add_scores());
  }
  std::vector<std::vector<Score>> all;
  for (const std::string& bytes : parallel::all_gather_bytes(states.SerializeAsString(), world)) {
    FATHOM_CHECK(states.ParseFromString(bytes), "scores that are none");
    std::vector<Score>& of_rank = all.emplace_back();
    for (const ScoreState& score : states.scores()) {
      of_rank.push_back(from_message(score));
    }
  }
  return all;
}

}  // namespace fathom::rl
