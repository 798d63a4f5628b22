#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "rl/rollout.h"
#include "trainer/metrics.h"

namespace fathom::rl {

// What a rollout looks like, for people.
struct RolloutSummary {
  std::int64_t num_groups = 0;  // drawn
  std::int64_t num_kept = 0;    // to be learnt from
  std::int64_t num_samples = 0;
  std::int64_t num_without_verdict = 0;
  std::optional<double> reward_mean;         // of the samples with a verdict
  std::vector<std::optional<double>> parts;  // mean of each reward over its own verdicts
  double spread_share = 0;                   // of groups whose rewards differ
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t longest = 0;
  double mean_length = 0;
  double truncated_share = 0;  // of all samples
  // -mean log pi of the sampled tokens, nats: without top_k and top_p an estimate of the policy's
  // entropy without bias.
  double entropy = 0;
};
RolloutSummary summarize(const Rollout& rollout);

// names: of the rewards.
std::vector<trainer::Metric> to_metrics(const RolloutSummary& summary,
                                        const std::vector<std::string>& names);

// Every sample as a line of JSON: problem, completion, rewards with their reasons, advantage,
// statistics of its log-probabilities. Replaces what was there. Throws IoError.
void write_samples(const Rollout& rollout, const std::vector<std::string>& names,
                   const std::filesystem::path& file);

}  // namespace fathom::rl
