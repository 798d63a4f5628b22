#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tests/support/tiny_run.h"

namespace fathom::rl {

// Between the log-probabilities that tokens were sampled with and those of the training forward,
// over all tokens of a run.
struct RolloutGap {
  double largest = 0;              // |difference|, nats
  std::int64_t num_different = 0;  // tokens with other bits
  std::int64_t num_tokens = 0;

  bool operator==(const RolloutGap&) const = default;
};

// A run of a small model over bytes that samples and updates in turn, so that its weights are other
// ones in each step. Sequences are sampled in pages too few for all that want to run, with prompts
// that share their first page, a few tokens at a time. The trainer gets them in an order drawn for
// the step, packed into rows, with recomputation on: what is compared is what its own pass says.
RolloutGap measure_rollout_gap(const testing::Layout& layout, std::int64_t num_steps);

// One of each kind, up to 8 ranks.
std::vector<testing::Layout> rollout_gap_layouts();

}  // namespace fathom::rl
