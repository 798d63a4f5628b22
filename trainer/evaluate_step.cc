#include "trainer/evaluate_step.h"

#include <utility>

#include "parallel/pipeline/executor.h"

namespace fathom::trainer {

EvaluateStep::EvaluateStep(model::PipelinedModel& model, const parallel::Mesh& mesh, Stream& stream)
    : model_(&model),
      mesh_(&mesh),
      stream_(&stream),
      schedules_(
          [ranks = mesh.shape().pipeline, stages = model.stages_per_rank()](int num_micro_batches) {
            return parallel::forward_only(ranks, stages, num_micro_batches);
          }),
      sums_(empty_loss_sums(model.options())) {}

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
  parallel::run(schedules_.at(static_cast<int>(micro_batches.size())), model_->stages(),
                mesh_->pipeline(), *stream_);
  sums_.totals(*stream_);  // what they hold does not grow with the number of batches
}

LossTotals EvaluateStep::take_totals() {
  return gather_loss_totals(std::exchange(sums_, empty_loss_sums(model_->options())), *mesh_,
                            *stream_);
}

}  // namespace fathom::trainer
