#include "trainer/rank_plan.h"

#include <iomanip>
#include <sstream>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "model/factory.h"
#include "model/pipelined_model.h"
#include "optim/factory.h"
#include "parallel/comm/meta_communicator.h"
#include "trainer/factory.h"
#include "trainer/generation_plan.h"
#include "trainer/mebibytes.h"
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

RankPlan plan_rank(const config::RunConfig& config, int rank, double assumed_imbalance) {
  Stream stream(Device{DeviceType::kMeta, 0}, 1, model::make_numerics_options(config).sum_order());
  const parallel::MeshShape shape = make_mesh_shape(config.mesh());
  const auto world = parallel::make_meta_world(rank, shape.world_size());
  const parallel::Mesh mesh(*world, shape);
  const model::ModelOptions options = model::make_model_options(config);
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
  plan.optimizer_bytes = allocator.bytes_in_use() - before;

  const config::Train& train = config.train();
  // Rounded up for GRPO, whose mini-batches are packed: this is the most that one can take.
  const std::int64_t part = train.micro_batch_size() * shape.data *
                            (config.mesh().stages_per_rank() > 1 ? shape.pipeline : 1);
  const std::int64_t num_micro_batches = (train.global_batch_size() + part - 1) / part *
                                         (part / (train.micro_batch_size() * shape.data));
  std::vector<model::MicroBatch> micro_batches;
  for (std::int64_t i = 0; i < num_micro_batches; ++i) {
    micro_batches.push_back(meta_micro_batch(train.micro_batch_size(), train.sequence_length(),
                                             options.mtp_depth, stream));
  }
  StepOptions step;
  step.recompute = make_recompute_options(train.recompute());
  step.assumed_imbalance = assumed_imbalance;
  TrainStep train_step(model, *optimizer, mesh, stream);
  const StepResult result = train_step.run(
      micro_batches, TokenCounts(static_cast<std::size_t>(options.mtp_depth) + 1, 1), step, {});
  plan.peak_bytes = allocator.peak_bytes();
  plan.bytes_sent = result.bytes_sent;
  return plan;
}

std::string describe_numerics(const config::Numerics& numerics) {
  if (numerics.mode() == config::Numerics::FAST) {
    return "numerics: FAST, the same bits on the same layout";
  }
  return concat("numerics: EXACT, the same bits in every layout; gradients in contributions of ",
                numerics.gradient_unit_tokens(), " tokens and multiples of 2^-",
                numerics.gradient_fraction_bits(), ", tensor sums over ", numerics.tensor_chunks(),
                " chunks");
}

}  // namespace

std::vector<RankPlan> plan_ranks(const config::RunConfig& config, double assumed_imbalance) {
  const parallel::MeshShape shape = make_mesh_shape(config.mesh());
  std::vector<RankPlan> plans;
  for (int stage = 0; stage < shape.pipeline; ++stage) {
    plans.push_back(plan_rank(config, stage * shape.data * shape.tensor, assumed_imbalance));
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

std::string describe_plan(const config::RunConfig& config) {
  const config::Mesh& mesh = config.mesh();
  const ParameterCount count = count_parameters(config.model());
  std::ostringstream out;
  out << "mesh: pipeline " << mesh.pipeline() << " x data " << mesh.data() << " x tensor "
      << mesh.tensor() << ", expert " << mesh.expert() << ", stages per rank "
      << mesh.stages_per_rank() << '\n'
      << describe_numerics(config.numerics()) << '\n'
      << "parameters: " << count.main;
  if (count.mtp > 0) {
    out << " and " << count.mtp << " of multi-token prediction";
  }
  if (config.grpo().objective().kl_weight() > 0) {
    out << "\nreference policy: " << count.main
        << " weights, shared out over the replicas, beside those below";
  }
  out << "\nper rank, MiB; ranks of a pipeline stage are alike, and the peak is that of a rank "
         "whose experts get "
      << kAssumedImbalance << " x the mean\n"
      << "  pipeline  parameters       weights   gradients   optimizer  activations         peak\n";
  for (const RankPlan& plan : plan_ranks(config)) {
    const std::int64_t fixed = plan.value_bytes + plan.gradient_bytes + plan.optimizer_bytes;
    out << std::setw(10) << plan.rank / (mesh.data() * mesh.tensor()) << std::setw(12)
        << plan.num_parameters << "  " << mebibytes(plan.value_bytes)
        << mebibytes(plan.gradient_bytes) << mebibytes(plan.optimizer_bytes) << ' '
        << mebibytes(plan.peak_bytes - fixed) << ' ' << mebibytes(plan.peak_bytes) << "\n"
        << "            sent per step:";
    for (const auto& [axis, bytes] : plan.bytes_sent) {
      if (bytes > 0) {
        out << ' ' << axis << mebibytes(bytes) << " MiB";
      }
    }
    out << '\n';
  }
  out << describe_generation(config);
  return out.str();
}

}  // namespace fathom::trainer
