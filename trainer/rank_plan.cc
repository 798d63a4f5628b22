#include "trainer/rank_plan.h"

#include <numeric>

#include "configs/schema/run.pb.h"
#include "model/factory.h"
#include "model/pipelined_model.h"
#include "optim/factory.h"
#include "parallel/comm/meta_communicator.h"
#include "parallel/pipeline/schedule.h"
#include "trainer/factory.h"
#include "trainer/train_step.h"

namespace fathom::trainer {
namespace {

model::MicroBatch meta_micro_batch(std::int64_t num_sequences, std::int64_t sequence_length,
                                   int mtp_depth, Stream& stream) {
  model::MicroBatch batch;
  batch.num_sequences = num_sequences;
  batch.sequence_length = sequence_length;
  batch.max_segment_tokens = sequence_length;
  const Shape per_token{num_sequences * sequence_length};
  batch.tokens = Tensor::empty(per_token, DType::kInt32, stream);
  batch.positions = Tensor::empty(per_token, DType::kInt32, stream);
  batch.sequence_ids = Tensor::empty(per_token, DType::kInt32, stream);
  batch.segments = Tensor::empty(Shape{num_sequences + 1}, DType::kInt32, stream);
  for (int depth = 0; depth <= mtp_depth; ++depth) {
    batch.targets.push_back({Tensor::empty(per_token, DType::kInt32, stream),
                             Tensor::empty(per_token, DType::kFloat32, stream),
                             Tensor::empty(per_token, DType::kFloat32, stream)});
  }
  return batch;
}

// Rounded up for GRPO, whose mini-batches are packed: this is the most that one can take.
std::int64_t count_micro_batches(const config::RunConfig& config) {
  const config::Mesh& mesh = config.mesh();
  const std::int64_t round = mesh.stages_per_rank() > 1 ? mesh.pipeline() : 1;
  const std::int64_t part = config.train().micro_batch_size() * mesh.data() * round;
  return (config.train().global_batch_size() + part - 1) / part * round;
}

std::vector<model::MicroBatch> meta_micro_batches(const config::RunConfig& config, Stream& stream) {
  std::vector<model::MicroBatch> micro_batches;
  for (std::int64_t i = 0; i < count_micro_batches(config); ++i) {
    micro_batches.push_back(meta_micro_batch(config.train().micro_batch_size(),
                                             config.train().sequence_length(),
                                             static_cast<int>(config.model().mtp_depth()), stream));
  }
  return micro_batches;
}

// As rl/reference_policy.h holds it.
std::vector<Tensor> make_reference(const config::RunConfig& config,
                                   parallel::ParameterBuffer& parameters, Stream& stream) {
  std::vector<Tensor> shards;
  if (config.grpo().objective().kl_weight() > 0) {
    for (const parallel::ParameterGroup& group : parameters.groups()) {
      shards.push_back(Tensor::empty(group.value_shard.shape(), group.value_shard.dtype(), stream));
    }
  }
  return shards;
}

RankPlan plan_rank(const config::RunConfig& config, int rank) {
  const model::ModelOptions options = model::make_model_options(config);
  Stream stream(Device{DeviceType::kMeta, 0}, 1, options.numerics.sum_order());
  const parallel::MeshShape shape = make_mesh_shape(config.mesh());
  const auto world = parallel::make_meta_world(rank, shape.world_size());
  const parallel::Mesh mesh(*world, shape);
  model::PipelinedModel model(options, make_pipeline_options(config), mesh, stream);
  const Allocator& allocator = *stream.allocator();
  RankPlan plan;
  plan.rank = rank;
  plan.num_parameters = model.parameters().num_local_elements();
  for (const parallel::ParameterGroup& group : model.parameters().groups()) {
    plan.value_bytes += group.values.size_bytes();
    plan.gradient_bytes += group.gradients.size_bytes();
  }
  const std::int64_t before = allocator.bytes_in_use();
  const auto optimizer = optim::make_optimizer(config.optimizer(), model.parameters(), stream);
  const std::int64_t with_optimizer = allocator.bytes_in_use();
  plan.optimizer_bytes = with_optimizer - before;
  const std::vector<Tensor> reference = make_reference(config, model.parameters(), stream);
  plan.held_bytes = allocator.bytes_in_use();
  plan.reference_bytes = plan.held_bytes - with_optimizer;

  StepOptions step;
  step.recompute = make_recompute_options(config.train().recompute());
  step.assumed_imbalance = config.mesh().assumed_imbalance();
  TrainStep train_step(model, *optimizer, mesh, stream);
  const StepResult result =
      train_step.run(meta_micro_batches(config, stream),
                     TokenCounts(static_cast<std::size_t>(options.mtp_depth) + 1, 1), step, {});
  plan.peak_bytes = allocator.peak_bytes();
  plan.bytes_sent = result.bytes_sent;
  return plan;
}

}  // namespace

std::vector<RankPlan> plan_ranks(const config::RunConfig& config) {
  const parallel::MeshShape shape = make_mesh_shape(config.mesh());
  std::vector<RankPlan> plans;
  for (int stage = 0; stage < shape.pipeline; ++stage) {
    plans.push_back(plan_rank(config, stage * shape.data * shape.tensor));
  }
  return plans;
}

ParameterCount count_parameters(const config::Model& config) {
  Stream stream(Device{DeviceType::kMeta, 0});
  const auto world = parallel::make_meta_world(0, 1);
  const parallel::Mesh mesh(*world, parallel::MeshShape{});
  const auto count = [&](int mtp_depth) {
    model::ModelOptions options = model::make_model_options(config);
    options.mtp_depth = mtp_depth;
    model::PipelinedModel model(options, {}, mesh, stream);
    return model.parameters().num_local_elements();
  };
  const std::int64_t main = count(0);
  return {main, count(static_cast<int>(config.mtp_depth())) - main};
}

PipelinePlan plan_pipeline(const config::RunConfig& config) {
  const int num_ranks = config.mesh().pipeline();
  const model::ModelOptions options = model::make_model_options(config);
  const std::vector<model::StageOptions> stages =
      model::cut_into_stages(options, make_pipeline_options(config), num_ranks);
  const std::vector<double> flops =
      model::stage_flops(options, stages, config.train().sequence_length());
  const double mean = std::accumulate(flops.begin(), flops.end(), 0.0) / num_ranks;
  PipelinePlan plan;
  plan.layers.resize(static_cast<std::size_t>(num_ranks));
  plan.work.resize(plan.layers.size());
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    const std::size_t rank = stage % plan.layers.size();
    plan.layers[rank].push_back(stages[stage].num_layers);
    plan.work[rank] += flops[stage] / mean;
  }
  plan.num_micro_batches = count_micro_batches(config);
  // With one stage a rank the interleaved schedule is 1F1B.
  const parallel::Schedule schedule = parallel::interleaved_one_forward_one_backward(
      num_ranks, config.mesh().stages_per_rank(), static_cast<int>(plan.num_micro_batches));
  plan.busy_share = parallel::simulate(schedule, {.of_stage = flops}).busy_share;
  return plan;
}

}  // namespace fathom::trainer
