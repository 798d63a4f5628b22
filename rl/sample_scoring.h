#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"
#include "rl/problems/problem.h"
#include "rl/rewards/reward.h"
#include "trainer/generation/sequence.h"
#include "trainer/generation/text.h"

namespace fathom::rl {

// The text of a completion. Thread-safe.
using ReadCompletion = std::function<trainer::CompletionText(const trainer::Completion&)>;

// A completion that is to be scored, by rank owner % world_size. Borrows all that it names.
struct SampleToScore {
  const Problem* problem = nullptr;
  const trainer::Completion* completion = nullptr;
  std::int64_t owner = 0;
};

// The score of each sample, in order, the same on all ranks. Every rank scores its own samples,
// rewards.num_at_once() side by side, and all exchange what they found once, at the end; until then
// they meet every minute, so that those who are done are not taken for hanging. `progress` is
// called as samples are scored. Collective, with the same samples on all ranks. Throws the same
// error on every rank: ConfigError for a problem that no verifier can read, IoError for a reward
// whose command cannot be started.
std::vector<Score> score_samples(std::span<const SampleToScore> samples,
                                 const WeightedRewards& rewards, const ReadCompletion& read,
                                 parallel::Communicator& world,
                                 const std::function<void()>& progress);

}  // namespace fathom::rl
