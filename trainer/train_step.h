#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/pipelined_model.h"
#include "optim/optimizer.h"
#include "parallel/mesh.h"
#include "parallel/pipeline/schedule_cache.h"

namespace fathom::trainer {

// What one optimizer step is told, beside its micro-batches.
struct StepOptions {
  double learning_rate = 0.0;
  double clip_norm = 1.0;
  double selection_bias_rate = 0.0;
  DType gradient_dtype = DType::kFloat32;
  model::RecomputeOptions recompute;
  double assumed_imbalance = 1.0;  // meta device only
  // Of the loss; see model::StageStep. The reported losses stay the mean over the valid tokens.
  float logit_scale = 1.0F;
  model::TokenLoss* token_loss = nullptr;
  model::RoutingRecord* routing = nullptr;
  // Called when the shards hold the reduced gradients, before they are clipped. May be empty.
  std::function<void()> gradients_reduced;
};

// Valid tokens of the global batch at each prediction depth: the denominators of the reported
// losses.
using TokenCounts = std::vector<std::int64_t>;

// The same on every rank.
struct StepResult {
  double loss = 0.0;                  // main next-token loss, nats a token
  std::vector<double> mtp_losses;     // per module, nats a token, without its weight
  double balance_loss = 0.0;          // with its coefficients, summed over layers
  double grad_norm = 0.0;             // before clipping
  bool is_finite = true;              // false: nothing was updated
  std::int64_t num_refused = 0;       // contributions to gradients that no integer sum holds
  std::map<int, double> expert_load;  // by layer: largest load of an expert / mean load
  // This rank's: on a device the time of the device, which works behind the host.
  std::map<std::string, double> phase_ms;
  std::map<std::string, std::int64_t> bytes_sent;  // this rank's, by axis
};

// Called with the name of what begins, for the watchdog.
using ReportPhase = std::function<void(const char*)>;

// One optimizer step over all axes: pipeline schedule, gradient reduction, clipping, update,
// balancing, parameter gathering. The host gives all of it to the device and waits once, at the
// end, for what it reports; besides only where experts are spread over ranks, for their numbers of
// rows, and where losses are weighed on the host (GRPO).
class TrainStep {
 public:
  TrainStep(model::PipelinedModel& model, optim::Optimizer& optimizer, const parallel::Mesh& mesh,
            Stream& stream);

  // micro_batches: this data rank's part of the global batch, the same on all its pipeline and
  // tensor ranks, with loss weights that are divided by the global counts already. Collective over
  // the mesh.
  StepResult run(const std::vector<model::MicroBatch>& micro_batches, const TokenCounts& counts,
                 const StepOptions& options, const ReportPhase& report_phase);

 private:
  void forward_backward(const std::vector<model::MicroBatch>& micro_batches,
                        const StepOptions& options, model::LossSums& sums);
  std::int64_t num_expert_counts();
  void sum_expert_counts(Tensor& loads);
  std::map<int, double> balance_experts(std::span<const std::int64_t> loads, double rate);
  std::map<std::string, std::int64_t> traffic() const;

  model::PipelinedModel* model_;
  optim::Optimizer* optimizer_;
  const parallel::Mesh* mesh_;
  Stream* stream_;
  parallel::ScheduleCache schedules_;
};

}  // namespace fathom::trainer
