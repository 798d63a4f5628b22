#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/pipelined_model.h"
#include "rl/policy_batch.h"
#include "rl/policy_loss.h"
#include "rl/policy_objective.h"
#include "rl/reference_policy.h"
#include "rl/rollout.h"
#include "trainer/device_batch.h"
#include "trainer/evaluate_step.h"
#include "trainer/train_step.h"

namespace fathom::rl {

struct PolicyUpdateOptions {
  PolicyLossOptions loss;
  std::int64_t batch_size = 0;        // completions of an update
  std::int64_t sequence_length = 0;   // of the rows that they are packed into
  std::int64_t micro_batch_size = 0;  // rows
  float temperature = 1.0F;
  // The sampler's log-probabilities have the bits of the trainer's (EXACT): they are pi_old, which
  // the first update of each step proves. Else (FAST) a pass over the mini-batches makes pi_old.
  bool samples_are_exact = true;
  // Tokens keep the experts that they had under the weights which sampled them.
  bool replays_routing = false;
};

// Whether the loss counts a sample of a group that is kept, and whether it has a gradient, too: one
// without advantage has none unless the divergence from a reference is part of the loss.
bool counts(const RolloutSample& sample, const PolicyLossOptions& loss);
bool is_learnt(const RolloutGroup& group, const RolloutSample& sample,
               const PolicyLossOptions& loss);

// All updates of a step together; the same on all ranks.
struct PolicyUpdateResult {
  // loss and grad_norm are means over the updates that were made; not finite when none was.
  trainer::StepResult step;
  PolicyStatistics statistics;  // ratios and clipping of all updates
  int num_updates = 0;          // mini-batches in which there was something to learn
  int num_skipped = 0;          // of these, that were not finite and changed nothing
  std::int64_t num_tokens = 0;  // that went through the trainer
  // Between the sampler's and the trainer's log-probabilities of one token, before any update: 0 in
  // EXACT, where only the first mini-batch is looked at, unless routing is replayed.
  double largest_gap = 0;
  double first_ratio_min = 1;  // of the first update
  double first_ratio_max = 1;
};

// Updates the weights on what a rollout sampled, mini-batch by mini-batch in the order of the
// samples. Samples that take no part in the loss, and those whose gradient is zero whatever the
// weights (no advantage and no divergence), count in its denominators but are not computed; a
// mini-batch without any other makes no update. A last one of fewer samples than batch_size, which
// dynamic sampling may leave, counts by its share of batch_size. Neither balance losses nor MTP
// take part, and selection biases stand still: they are pretraining's.
class PolicyUpdater {
 public:
  // All outlive the updater. `reference` is null where loss.kl_weight is 0.
  PolicyUpdater(trainer::TrainStep& train_step, model::PipelinedModel& model,
                const parallel::Mesh& mesh, Stream& stream, ReferencePolicy* reference);

  // Collective over the mesh. Throws InternalError when samples_are_exact and the trainer finds
  // other bits.
  PolicyUpdateResult update(const Rollout& rollout, const PolicyUpdateOptions& options,
                            const trainer::StepOptions& step_options,
                            const trainer::ReportPhase& report_phase);

 private:
  struct MiniBatch;
  std::vector<MiniBatch> cut(const Rollout& rollout, const PolicyUpdateOptions& options) const;
  void pack(MiniBatch& mini_batch, const PolicyUpdateOptions& options) const;
  Logprobs logprobs(MiniBatch& mini_batch, float temperature, model::RoutingRecord* routing);
  void look_back(std::vector<MiniBatch>& mini_batches, const PolicyUpdateOptions& options);
  double largest_gap(const std::vector<MiniBatch>& mini_batches) const;
  void train(MiniBatch& mini_batch, const PolicyUpdateOptions& options,
             const trainer::StepOptions& step_options, const trainer::ReportPhase& report_phase,
             PolicyUpdateResult& result);

  trainer::TrainStep* train_step_;
  trainer::EvaluateStep evaluate_step_;
  model::PipelinedModel* model_;
  const parallel::Mesh* mesh_;
  Stream* stream_;
  ReferencePolicy* reference_;
};

}  // namespace fathom::rl
