#pragma once

#include <vector>

#include "model/pipelined_model.h"
#include "parallel/mesh.h"
#include "parallel/pipeline/schedule_cache.h"
#include "trainer/loss_totals.h"

namespace fathom::trainer {

struct EvaluateOptions {
  float logit_scale = 1.0F;                 // of the loss; see model::StageStep
  model::TokenLoss* token_loss = nullptr;   // shown the tokens' losses; its weights are not read
  model::RoutingRecord* routing = nullptr;  // see model::StageStep
};

// The training forward without a backward: losses of any number of batches. It needs no optimizer.
class EvaluateStep {
 public:
  // All outlive it.
  EvaluateStep(model::PipelinedModel& model, const parallel::Mesh& mesh, Stream& stream);

  // Takes this data rank's micro-batches of a global batch through the model, as TrainStep::run()
  // takes them, and adds their losses to the sums. Collective over the mesh.
  void run(const std::vector<model::MicroBatch>& micro_batches,
           const EvaluateOptions& options = {});
  // The sums over all ranks since the last call: they do not depend on how the sequences were cut
  // into batches. Collective over the mesh.
  LossTotals take_totals();

 private:
  model::PipelinedModel* model_;
  const parallel::Mesh* mesh_;
  Stream* stream_;
  parallel::ScheduleCache schedules_;
  model::LossSums sums_;
};

}  // namespace fathom::trainer
