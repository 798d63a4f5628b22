#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "configs/run_config.h"
#include "data/tokenizer.h"
#include "rl/factory.h"
#include "rl/held_out.h"
#include "rl/policy_update.h"
#include "rl/problem_stream.h"
#include "rl/reference_policy.h"
#include "rl/rollout_report.h"
#include "rl/rollout_sampler.h"
#include "trainer/generation/generator.h"
#include "trainer/training_loop.h"

namespace fathom::rl {

// What a GRPO run learns from, opened and checked; no other rank is involved.
struct GrpoSources {
  // Throws ConfigError and IoError naming file and field, ConfigError for a held-out problem whose
  // prompt leaves no room for a completion.
  explicit GrpoSources(const config::RunConfig& config);

  std::unique_ptr<data::Tokenizer> tokenizer;
  ProblemStream problems;
  HeldOutProblems held_out;
  EncodeProblem encode;
  WeightedRewards rewards;
  PolicyLossOptions loss;
};

// Group relative policy optimization (rl/policy_loss.h): each step samples completions of problems
// from the policy itself, in the layout and on the weights that it is trained on, scores them, and
// updates the weights on them, mini-batch by mini-batch.
class GrpoTask final : public trainer::TrainingTask {
 public:
  // Both outlive the task.
  GrpoTask(trainer::TrainingLoop& loop, const GrpoSources& sources);

  void begin() override;
  void take_step() override;
  void evaluate() override;
  void check_resume(const config::RunConfig& stored) const override;
  void visit_state(parallel::StateVisitor& visitor) override;
  void saved() override;

 private:
  RolloutOptions rollout_options() const;
  PolicyUpdateOptions update_options() const;
  void refresh_reference();
  void note_resumed(const Rollout& rollout, std::int64_t step) const;
  void write_samples(const Rollout& rollout, std::int64_t step) const;
  void report(const Rollout& rollout, const RolloutSummary& summary, PolicyUpdateResult& result,
              double learning_rate, double seconds);
  void end_without_verdicts(const Rollout& rollout, const RolloutSummary& summary);
  std::vector<Score> score(std::span<const trainer::Completion> completions) const;
  HeldOutSamples sample_held_out();

  trainer::TrainingLoop* loop_;
  const GrpoSources* sources_;
  trainer::Generator generator_;
  std::optional<ReferencePolicy> reference_;
  RolloutSampler sampler_;
  PolicyUpdater updater_;
  int num_steps_without_verdict_ = 0;  // in a row
};

}  // namespace fathom::rl
