#include "trainer/evaluate_step.h"

#include <utility>

#include "parallel/pipeline/executor.h"

namespace fathom::trainer {

EvaluateStep::EvaluateStep(model::PipelinedModel& model, const parallel::Mesh& mesh, Stream& stream)
    : model_(&model), mesh_(&mesh), stream_(&stream), sums_(empty_loss_sums(model.options())) {}

const parallel::Schedule& EvaluateStep::schedule(int num_micro_batches) {
  auto found = schedules_.find(num_micro_batches);
  if (found == schedules_.end()) {
    parallel::Schedule made = parallel::add_communication(parallel::forward_only(
        mesh_->shape().pipeline, model_->stages_per_rank(), num_micro_batches));
    parallel::simulate(made, parallel::Costs{});  // refuses a schedule that cannot end
    found = schedules_.emplace(num_micro_batches, std::move(made)).first;
  }
  return found->second;
}

void EvaluateStep::run(const std::vector<model::MicroBatch>& micro_batches,
                       const EvaluateOptions& options) {
  model::StageStep step;
  step.micro_batches = micro_batches;
  step.pass = model::Pass::kEvaluate;
  step.logit_scale = options.logit_scale;
  step.token_loss = options.token_loss;
  step.routing = options.routing;
  step.losses = &sums_;
  model_->begin_step(step);
  parallel::run(schedule(static_cast<int>(micro_batches.size())), model_->stages(),
                mesh_->pipeline(), *stream_);
  sums_.totals(*stream_);  // what they hold does not grow with the number of batches
}

LossTotals EvaluateStep::take_totals() {
  return gather_loss_totals(std::exchange(sums_, empty_loss_sums(model_->options())), *mesh_,
                            *stream_);
}

}  // namespace fathom::trainer
