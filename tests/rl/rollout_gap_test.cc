#include "tests/rl/rollout_gap.h"

#include "tests/support/catch.h"

namespace fathom::rl {

TEST_CASE(
    "Sampled log-probabilities are those of the training forward, bit for bit, on each layout") {
  std::vector<RolloutGap> gaps;
  for (const testing::Layout& layout : rollout_gap_layouts()) {
    INFO(testing::to_string(layout));
    const RolloutGap gap = measure_rollout_gap(layout, 2);
    CHECK(gap.largest == 0.0);
    CHECK(gap.num_different == 0);
    CHECK(gap.num_tokens > 400);
    gaps.push_back(gap);
  }
  // And all layouts sample the same.
  CHECK(gaps == std::vector<RolloutGap>(gaps.size(), gaps[0]));
}

}  // namespace fathom::rl
