// Activations of bfloat16, on the meta device: which memory they take, and that a whole step asks
// every operation for dtypes that it has.
#include "core/error.h"
#include "optim/adamw.h"
#include "parallel/comm/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/small_training.h"

namespace fathom::testing {
namespace {

model::MicroBatch meta_micro_batch(std::int64_t num_sequences, std::int64_t sequence_length,
                                   int depths, Stream& stream) {
  model::MicroBatch batch;
  batch.num_sequences = num_sequences;
  batch.sequence_length = sequence_length;
  const Shape per_token{batch.num_tokens()};
  batch.tokens = Tensor::empty(per_token, DType::kInt32, stream);
  batch.positions = Tensor::empty(per_token, DType::kInt32, stream);
  batch.sequence_ids = Tensor::empty(per_token, DType::kInt32, stream);
  batch.segments = Tensor::empty(Shape{num_sequences + 1}, DType::kInt32, stream);
  for (int depth = 0; depth < depths; ++depth) {
    batch.targets.push_back({Tensor::empty(per_token, DType::kInt32, stream),
                             Tensor::empty(per_token, DType::kFloat32, stream),
                             Tensor::empty(per_token, DType::kFloat32, stream)});
  }
  return batch;
}

// One dense layer between embedding and head, sizes such that every tensor fills whole blocks of
// the allocator.
model::ModelOptions one_dense_layer() {
  model::ModelOptions options = small_options();
  options.moe = {};
  options.mtp_depth = 0;
  options.num_layers = 1;
  options.max_position = 64;
  return options;
}

// What the forward of 64 tokens leaves for the backward of that model.
std::int64_t bytes_saved(DType dtype) {
  Stream stream(Device{DeviceType::kMeta, 0});
  const auto world = parallel::make_meta_world(0, 1);
  const parallel::Mesh mesh(*world, {});
  model::ModelOptions options = one_dense_layer();
  options.numerics.activation_dtype = dtype;
  model::PipelinedModel model(options, {}, mesh, stream);
  const std::vector<model::MicroBatch> micro_batches = {meta_micro_batch(1, 64, 1, stream)};
  model::LossSums sums(1);
  model::StageStep step;
  step.micro_batches = micro_batches;
  step.losses = &sums;
  model.begin_step(step);
  const std::int64_t before = stream.allocator()->bytes_in_use();
  model.stages()[0]->forward(0, Tensor());
  return stream.allocator()->bytes_in_use() - before;
}

struct StepMemory {
  std::int64_t values = 0, gradients = 0, optimizer = 0;
  std::int64_t activations = 0;  // at the peak
};

// A whole optimizer step of one rank of a layout.
StepMemory memory_of_step(DType dtype, const parallel::MeshShape& shape, int rank) {
  Stream stream(Device{DeviceType::kMeta, 0});
  const auto world = parallel::make_meta_world(rank, shape.world_size());
  const parallel::Mesh mesh(*world, shape);
  model::ModelOptions options = small_options();
  options.numerics.activation_dtype = dtype;
  model::PipelinedModel model(options, {}, mesh, stream);
  model.initialize(1);
  StepMemory memory;
  for (const parallel::ParameterGroup& group : model.parameters().groups()) {
    CHECK(group.values.dtype() == dtype);
    memory.values += group.values.size_bytes();
    memory.gradients += group.gradients.size_bytes();
  }
  const std::int64_t before = stream.allocator()->bytes_in_use();
  optim::AdamWHyperparameters hyperparameters;
  hyperparameters.master_weights = true;
  hyperparameters.parameter_dtype = DType::kBFloat16;
  optim::AdamW optimizer(model.parameters(), hyperparameters, stream);
  optimizer.values_drawn(stream);
  memory.optimizer = stream.allocator()->bytes_in_use() - before;
  std::vector<model::MicroBatch> micro_batches;
  for (int i = 0; i < 4; ++i) {
    micro_batches.push_back(meta_micro_batch(2, 128, options.mtp_depth + 1, stream));
  }
  const std::int64_t resting = stream.allocator()->bytes_in_use();
  stream.allocator()->reset_peak();
  trainer::TrainStep step(model, optimizer, mesh, stream);
  step.run(micro_batches, {1, 1}, {}, {});
  CHECK(stream.allocator()->bytes_in_use() == resting);
  memory.activations = stream.allocator()->peak_bytes() - resting;
  return memory;
}

}  // namespace

TEST_CASE("A forward keeps two bytes a number of its activations in bfloat16, four in float32") {
  const model::ModelOptions options = one_dense_layer();
  const std::int64_t heads = options.num_attention_heads;
  // Two inputs of norms, two of blocks, the final norm's, and the gradient of the head's.
  const std::int64_t hidden_states = 6 * std::int64_t{options.hidden_size};
  // Of queries and of keys, before and after their norm.
  const std::int64_t latents =
      2 * (options.q_lora_rank + options.kv_lora_rank + options.qk_rope_head_dim);
  const std::int64_t attention =
      heads * (options.qk_head_dim() + options.qk_nope_head_dim + 2 * options.v_head_dim);
  const std::int64_t gate_up_and_product = 3 * std::int64_t{options.intermediate_size};
  const std::int64_t activations = 64 * (hidden_states + latents + attention + gate_up_and_product);
  // Of five norms, the log-sum-exp of each head, and the losses until they are read.
  const std::int64_t floats = 64 * (5 + heads + 1);
  CHECK(bytes_saved(DType::kFloat32) == 4 * activations + 4 * floats);
  CHECK(bytes_saved(DType::kBFloat16) == 2 * activations + 4 * floats);
}

TEST_CASE("A whole step runs on activations of bfloat16, in half of their memory") {
  const parallel::MeshShape shape =
      GENERATE(parallel::MeshShape{1, 1, 1, 1}, parallel::MeshShape{2, 2, 1, 2});
  const int rank = shape.pipeline == 1 ? 0 : GENERATE(0, 2);
  const StepMemory floats = memory_of_step(DType::kFloat32, shape, rank);
  const StepMemory halves = memory_of_step(DType::kBFloat16, shape, rank);
  CHECK(2 * halves.values == floats.values);
  CHECK(halves.gradients == floats.gradients);
  CHECK(halves.optimizer == floats.optimizer);
  INFO(halves.activations << " of " << floats.activations << " bytes");
  CHECK(halves.activations < 0.65 * floats.activations);
  CHECK(halves.activations > 0.5 * floats.activations);
}

TEST_CASE("AdamW refuses values of bfloat16 without master weights") {
  Stream stream(Device{DeviceType::kMeta, 0});
  const auto world = parallel::make_meta_world(0, 1);
  const parallel::Mesh mesh(*world, {});
  model::ModelOptions options = small_options();
  options.numerics.activation_dtype = DType::kBFloat16;
  model::PipelinedModel model(options, {}, mesh, stream);
  CHECK_THROWS_AS(optim::AdamW(model.parameters(), {}, stream), InternalError);
}

}  // namespace fathom::testing
