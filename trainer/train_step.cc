#include "trainer/train_step.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/profiler_range.h"
#include "kernels/elementwise.h"
#include "parallel/pipeline/executor.h"
#include "trainer/loss_totals.h"
#include "trainer/step_totals.h"

namespace fathom::trainer {
namespace {

// Times phases where the work is done: on the device, without waiting for it.
class PhaseClock {
 public:
  PhaseClock(const ReportPhase& report, Stream& stream) : report_(&report), stream_(&stream) {}
  // Ends the running phase and begins `name`; null only ends.
  void begin(const char* name) {
    range_.reset();
    Phase& phase = phases_.emplace_back();
    phase.name = name;
    phase.begun = std::chrono::steady_clock::now();
    if (DeviceQueue* queue = stream_->queue()) {
      phase.mark = queue->mark();
    }
    if (name != nullptr) {
      range_ = std::make_unique<ProfilerRange>(*stream_, name);
    }
    if (name != nullptr && *report_) {
      (*report_)(name);
    }
  }
  // Of the phases that have ended. The device has done their work.
  std::map<std::string, double> milliseconds() const {
    std::map<std::string, double> result;
    for (std::size_t i = 0; i + 1 < phases_.size(); ++i) {
      const Phase& phase = phases_[i];
      const Phase& next = phases_[i + 1];
      result[phase.name] +=
          phase.mark ? next.mark->milliseconds_since(*phase.mark)
                     : std::chrono::duration<double, std::milli>(next.begun - phase.begun).count();
    }
    return result;
  }

 private:
  struct Phase {
    const char* name = nullptr;
    std::chrono::steady_clock::time_point begun;
    std::unique_ptr<DeviceMark> mark;  // on a device that has a queue
  };
  const ReportPhase* report_;
  Stream* stream_;
  std::unique_ptr<ProfilerRange> range_;
  std::vector<Phase> phases_;
};

}  // namespace

TrainStep::TrainStep(model::PipelinedModel& model, optim::Optimizer& optimizer,
                     const parallel::Mesh& mesh, Stream& stream)
    : model_(&model),
      optimizer_(&optimizer),
      mesh_(&mesh),
      stream_(&stream),
      schedules_(
          [ranks = mesh.shape().pipeline, stages = model.stages_per_rank()](int num_micro_batches) {
            return parallel::interleaved_one_forward_one_backward(ranks, stages, num_micro_batches);
          }) {}

// Adds up the counts of this rank's MoE layers over the plane, one layer after another, and starts
// them anew.
void TrainStep::sum_expert_counts(Tensor& loads) {
  std::int64_t begin = 0;
  for (const model::TransformerStage::MoeLayer& layer : model_->moe_layers()) {
    Tensor& counts = layer.moe->expert_counts();
    Tensor part = loads.narrow(begin, begin + counts.numel());
    kernels::copy(counts, part, *stream_);
    kernels::fill(counts, 0.0F, *stream_);
    begin += counts.numel();
  }
  if (begin > 0) {
    mesh_->plane().all_reduce(loads, parallel::ReduceOp::kSum, *stream_).wait();
  }
}

// The loads of the global batch decide the selection biases; the largest of each layer goes to
// every rank.
std::map<int, double> TrainStep::balance_experts(std::span<const std::int64_t> loads, double rate) {
  const model::ModelOptions& options = model_->options();
  const auto num_layers =
      static_cast<std::size_t>(options.num_layers) + static_cast<std::size_t>(options.mtp_depth);
  constexpr double kUnit = 1e6;
  std::vector<std::int64_t> load(num_layers, 0);
  for (const model::TransformerStage::MoeLayer& layer : model_->moe_layers()) {
    const auto num_experts = static_cast<std::size_t>(layer.moe->expert_counts().numel());
    const auto of_layer = loads.first(num_experts);
    loads = loads.subspan(num_experts);
    const std::int64_t total = std::reduce(of_layer.begin(), of_layer.end());
    if (total > 0) {
      load[static_cast<std::size_t>(layer.layer)] =
          std::llround(kUnit * static_cast<double>(std::ranges::max(of_layer)) *
                       static_cast<double>(num_experts) / static_cast<double>(total));
    }
    layer.moe->update_selection_bias(of_layer, static_cast<float>(rate), *stream_);
  }
  parallel::Communicator& pipeline = mesh_->pipeline();
  std::vector<std::int64_t> all(num_layers * static_cast<std::size_t>(pipeline.world_size()));
  pipeline.all_gather_integers(load, all);
  std::map<int, double> result;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] > 0) {
      result[static_cast<int>(i % num_layers)] = static_cast<double>(all[i]) / kUnit;
    }
  }
  return result;
}

std::map<std::string, std::int64_t> TrainStep::traffic() const {
  std::map<std::string, std::int64_t> bytes;
  for (const parallel::Communicator* group :
       {&mesh_->world(), &mesh_->pipeline(), &mesh_->data(), &mesh_->tensor(), &mesh_->expert(),
        &mesh_->plane(), &mesh_->expert_data()}) {
    bytes[group->name()] += group->bytes_sent();
  }
  if (mesh_->is_first_stage() || mesh_->is_last_stage()) {
    bytes[mesh_->shared_embedding().name()] += mesh_->shared_embedding().bytes_sent();
  }
  return bytes;
}

std::int64_t TrainStep::num_expert_counts() {
  std::int64_t count = 0;
  for (const model::TransformerStage::MoeLayer& layer : model_->moe_layers()) {
    count += layer.moe->expert_counts().numel();
  }
  return count;
}

void TrainStep::forward_backward(const std::vector<model::MicroBatch>& micro_batches,
                                 const StepOptions& options, model::LossSums& sums) {
  parallel::ParameterBuffer& parameters = model_->parameters();
  parameters.begin_gradients(*stream_, options.gradient_dtype);
  model::StageStep step;
  step.micro_batches = micro_batches;
  step.recompute = options.recompute;
  step.assumed_imbalance = options.assumed_imbalance;
  step.losses = &sums;
  step.logit_scale = options.logit_scale;
  step.token_loss = options.token_loss;
  step.routing = options.routing;
  step.gradient_complete = [&](parallel::Parameter& parameter) {
    parameters.gradient_complete(parameter, *stream_);
  };
  model_->begin_step(step);
  parallel::run(schedules_.at(static_cast<int>(micro_batches.size())), model_->stages(),
                mesh_->pipeline(), *stream_);
}

StepResult TrainStep::run(const std::vector<model::MicroBatch>& micro_batches,
                          const TokenCounts& counts, const StepOptions& options,
                          const ReportPhase& report_phase) {
  PhaseClock clock(report_phase, *stream_);
  const auto sent_before = traffic();
  parallel::ParameterBuffer& parameters = model_->parameters();
  model::LossSums sums = empty_loss_sums(model_->options());
  StepTotals totals(model_->options().mtp_depth + 1, num_expert_counts(), *stream_);

  clock.begin("forward_backward");
  forward_backward(micro_batches, options, sums);
  clock.begin("reduce_gradients");
  parameters.reduce_gradients(*stream_);
  if (options.gradients_reduced) {
    options.gradients_reduced();
  }
  totals.add(sums, parameters, mesh_->world(), *stream_);
  clock.begin("optimizer");
  optimizer_->step(options.learning_rate, totals.update_scale(options.clip_norm, *stream_),
                   *stream_);
  clock.begin("balance_experts");
  sum_expert_counts(totals.loads());
  clock.begin("gather_parameters");  // last, so that nothing on the same groups waits behind it
  parameters.gather_values(*stream_);
  clock.begin(nullptr);

  const StepTotals::Values values = totals.read(*stream_);  // the step's one wait for the device
  optimizer_->finish_step(values.is_finite);
  StepResult result;
  result.phase_ms = clock.milliseconds();
  result.grad_norm = values.grad_norm;
  result.num_refused = values.num_refused;
  result.is_finite = values.is_finite;
  result.balance_loss = values.losses.balance_loss;
  result.loss = values.losses.token_losses[0] / static_cast<double>(counts[0]);
  for (std::size_t depth = 1; depth < counts.size(); ++depth) {
    result.mtp_losses.push_back(values.losses.token_losses[depth] /
                                static_cast<double>(counts[depth]));
  }
  result.expert_load =
      balance_experts(values.loads, values.is_finite ? options.selection_bias_rate : 0.0);
  for (const auto& [axis, bytes] : traffic()) {
    result.bytes_sent[axis] = bytes - sent_before.at(axis);
  }
  return result;
}

}  // namespace fathom::trainer
