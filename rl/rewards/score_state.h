#pragma once

#include <span>
#include <vector>

#include "parallel/comm/communicator.h"
#include "rl/rewards/reward.h"

namespace fathom::rl {

class ScoreState;  // configs/schema/rollout_state.proto

// A score as a message, on disk and between ranks; back, it is the same to the bit.
void to_message(const Score& score, ScoreState& state);
Score from_message(const ScoreState& state);

// Collective: what each rank gives, by rank, on every rank.
std::vector<std::vector<Score>> all_gather_scores(std::span<const Score> mine,
                                                  parallel::Communicator& world);

}  // namespace fathom::rl
