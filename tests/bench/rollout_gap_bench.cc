// The largest difference between the log-probabilities that tokens were sampled with and those that
// the trainer computes, on each kind of layout, over a run with preemption, prefix sharing and
// batches in another order: rollout_gap_bench [steps]. Exit code 1 unless it is 0 throughout and
// all layouts sampled the same.
#include <cstdio>
#include <cstdlib>

#include "tests/rl/rollout_gap.h"

int main(int argc, char** argv) {
  const std::int64_t num_steps = argc > 1 ? std::atoll(argv[1]) : 100;
  bool is_exact = true;
  fathom::rl::RolloutGap first;
  for (const auto& layout : fathom::rl::rollout_gap_layouts()) {
    const fathom::rl::RolloutGap gap = fathom::rl::measure_rollout_gap(layout, num_steps);
    std::printf("%s: %lld steps, %lld tokens, largest difference %g, other bits in %lld tokens\n",
                fathom::testing::to_string(layout).c_str(), static_cast<long long>(num_steps),
                static_cast<long long>(gap.num_tokens), gap.largest,
                static_cast<long long>(gap.num_different));
    std::fflush(stdout);
    first = first.num_tokens == 0 ? gap : first;
    is_exact = is_exact && gap.num_different == 0 && gap == first;
  }
  return is_exact ? 0 : 1;
}
