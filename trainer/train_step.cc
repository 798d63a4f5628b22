#include "trainer/train_step.h"

#include <chrono>
#include <cmath>
#include <optional>
#include <span>

#include "core/error.h"
#include "core/host_copy.h"
#include "core/profiler_range.h"
#include "kernels/elementwise.h"
#include "optim/grad_clip.h"
#include "parallel/pipeline/executor.h"
#include "trainer/loss_totals.h"

namespace fathom::trainer {
namespace {

class PhaseClock {
 public:
  PhaseClock(std::map<std::string, double>& milliseconds, const ReportPhase& report, Stream& stream)
      : milliseconds_(&milliseconds), report_(&report), stream_(&stream) {}
  // Ends the running phase, with the work that it gave to the device, and begins `name`; null only
  // ends.
  void begin(const char* name) {
    range_.reset();
    stream_->synchronize();
    const auto now = std::chrono::steady_clock::now();
    if (name_ != nullptr) {
      (*milliseconds_)[name_] += std::chrono::duration<double, std::milli>(now - start_).count();
    }
    name_ = name;
    start_ = now;
    if (name != nullptr) {
      range_.emplace(*stream_, name);
    }
    if (name != nullptr && *report_) {
      (*report_)(name);
    }
  }

 private:
  std::map<std::string, double>* milliseconds_;
  const ReportPhase* report_;
  Stream* stream_;
  std::optional<ProfilerRange> range_;
  const char* name_ = nullptr;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace

TrainStep::TrainStep(model::PipelinedModel& model, optim::Optimizer& optimizer,
                     const parallel::Mesh& mesh, Stream& stream)
    : model_(&model), optimizer_(&optimizer), mesh_(&mesh), stream_(&stream) {}

const parallel::Schedule& TrainStep::schedule(int num_micro_batches) {
  auto found = schedules_.find(num_micro_batches);
  if (found == schedules_.end()) {
    const int ranks = mesh_->shape().pipeline;
    const int stages = model_->stages_per_rank();
    parallel::Schedule made =
        stages > 1
            ? parallel::interleaved_one_forward_one_backward(ranks, stages, num_micro_batches)
            : parallel::one_forward_one_backward(ranks, num_micro_batches);
    parallel::validate(made);
    made = parallel::add_communication(made);
    parallel::simulate(made, parallel::Costs{});  // refuses a schedule that cannot end
    found = schedules_.emplace(num_micro_batches, std::move(made)).first;
  }
  return found->second;
}

// Counts over the plane decide the selection biases; the loads of all layers go to every rank.
std::map<int, double> TrainStep::balance_experts(double rate, bool update) {
  const model::ModelOptions& options = model_->options();
  const auto num_layers =
      static_cast<std::size_t>(options.num_layers) + static_cast<std::size_t>(options.mtp_depth);
  constexpr double kUnit = 1e6;
  std::vector<std::int64_t> load(num_layers, 0);
  for (const model::TransformerStage::MoeLayer& layer : model_->moe_layers()) {
    Tensor& counts = layer.moe->expert_counts();
    mesh_->plane().all_reduce(counts, parallel::ReduceOp::kSum, *stream_).wait();
    if (stream_->is_meta()) {
      continue;
    }
    std::int64_t total = 0;
    std::int64_t largest = 0;
    const std::vector<std::int64_t> loads = to_host<std::int64_t>(counts, *stream_);
    for (const std::int64_t count : loads) {
      total += count;
      largest = std::max(largest, count);
    }
    if (total > 0) {
      load[static_cast<std::size_t>(layer.layer)] =
          std::llround(kUnit * static_cast<double>(largest) * static_cast<double>(counts.numel()) /
                       static_cast<double>(total));
    }
    if (update) {
      layer.moe->update_selection_bias(loads, static_cast<float>(rate), *stream_);
    }
    kernels::fill(counts, 0.0F, *stream_);
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

StepResult TrainStep::run(const std::vector<model::MicroBatch>& micro_batches,
                          const TokenCounts& counts, const StepOptions& options,
                          const ReportPhase& report_phase) {
  StepResult result;
  PhaseClock clock(result.phase_ms, report_phase, *stream_);
  const auto sent_before = traffic();
  model::LossSums sums = empty_loss_sums(model_->options());

  clock.begin("forward_backward");
  parallel::ParameterBuffer& parameters = model_->parameters();
  parameters.zero_gradients(*stream_, options.gradient_dtype);
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
  parallel::run(schedule(static_cast<int>(micro_batches.size())), model_->stages(),
                mesh_->pipeline(), *stream_);

  clock.begin("reduce_gradients");
  parameters.reduce_gradients(*stream_);
  if (options.gradients_reduced) {
    options.gradients_reduced();
  }
  const LossTotals totals = gather_loss_totals(sums, *mesh_, *stream_);
  const optim::GradientNorm norm = optim::gradient_norm(parameters, mesh_->world(), *stream_);
  result.grad_norm = norm.norm;
  result.num_refused = norm.num_refused;
  result.loss = totals.token_losses[0] / static_cast<double>(counts[0]);
  for (std::size_t depth = 1; depth < counts.size(); ++depth) {
    result.mtp_losses.push_back(totals.token_losses[depth] / static_cast<double>(counts[depth]));
  }
  result.balance_loss = totals.balance_loss;
  result.is_finite = norm.num_non_finite == 0 && norm.num_refused == 0 &&
                     std::isfinite(norm.norm) && std::isfinite(totals.balance_loss);
  for (const double total : totals.token_losses) {
    result.is_finite = result.is_finite && std::isfinite(total);
  }

  clock.begin("optimizer");
  if (result.is_finite) {
    optimizer_->step(options.learning_rate, optim::clip_factor(norm.norm, options.clip_norm),
                     *stream_);
  }
  clock.begin("balance_experts");
  result.expert_load = balance_experts(options.selection_bias_rate, result.is_finite);
  clock.begin("gather_parameters");  // last, so that nothing on the same groups waits behind it
  parameters.gather_values(*stream_);
  clock.begin(nullptr);
  for (const auto& [axis, bytes] : traffic()) {
    result.bytes_sent[axis] = bytes - sent_before.at(axis);
  }
  return result;
}

}  // namespace fathom::trainer
