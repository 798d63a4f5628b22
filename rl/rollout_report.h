#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "rl/policy_loss.h"
#include "rl/rollout.h"
#include "rl/sample_scoring.h"
#include "trainer/metrics.h"

namespace fathom::rl {

// What a rollout looks like, for people.
struct RolloutSummary {
  std::int64_t num_groups = 0;  // drawn
  std::int64_t num_learnt = 0;  // with a sample that has a gradient
  std::int64_t num_samples = 0;
  std::int64_t num_without_verdict = 0;
  std::optional<double> reward_mean;         // of the samples with a verdict
  std::vector<std::optional<double>> parts;  // mean of each reward over its own verdicts
  // reward_mean of the groups of each source; as long as the last source that has a group.
  std::vector<std::optional<double>> by_source;
  double spread_share = 0;  // of groups whose rewards differ
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t longest = 0;
  double mean_length = 0;
  double truncated_share = 0;  // of all samples
  // -mean log pi of the sampled tokens, nats: without top_k and top_p an estimate of the policy's
  // entropy without bias.
  double entropy = 0;
};
RolloutSummary summarize(const Rollout& rollout, const PolicyLossOptions& loss);

// names: of the rewards. num_sources: of grpo.problems; means of each that was drawn from where
// there are several, "reward_mean_problems_1".
std::vector<trainer::Metric> to_metrics(const RolloutSummary& summary,
                                        const std::vector<std::string>& names, int num_sources);

// The reason that the first reward without a value gives; empty where all have one.
std::string first_failure(const Rollout& rollout);

// Every sample as a line of JSON: problem, completion, rewards with their reasons, advantage,
// whether it has a gradient, statistics of its log-probabilities. Replaces what was there. Throws
// IoError.
struct SampleLines {
  const std::vector<std::string>& names;  // of the rewards
  const PolicyLossOptions& loss;
  const ReadCompletion& text;
};
void write_samples(const Rollout& rollout, const SampleLines& lines,
                   const std::filesystem::path& file);

}  // namespace fathom::rl
