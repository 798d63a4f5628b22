#include "tests/support/small_training.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <mutex>

#include "core/rng.h"
#include "kernels/elementwise.h"
#include "optim/adamw.h"
#include "parallel/host_state.h"
#include "tests/support/run_ranks.h"

namespace fathom::testing {

model::ModelOptions small_options() {
  model::ModelOptions options;
  options.vocab_size = 64;
  options.hidden_size = 32;
  options.num_layers = 4;
  options.num_dense_layers = 1;
  options.intermediate_size = 48;
  options.num_attention_heads = 4;
  options.q_lora_rank = 20;
  options.kv_lora_rank = 16;
  options.qk_nope_head_dim = 12;
  options.qk_rope_head_dim = 8;
  options.v_head_dim = 10;
  options.max_position = kSmallLength;
  options.initializer_range = 0.1F;
  options.mtp_depth = 1;
  options.moe.num_experts = 8;
  options.moe.num_shared_experts = 1;
  options.moe.top_k = 2;
  options.moe.intermediate_size = 12;
  options.moe.num_groups = 4;
  options.moe.num_kept_groups = 2;
  options.moe.gate_scale = 2.5F;
  options.moe.sequence_balance_coefficient = 0.01F;
  return options;
}

model::ModelOptions tensor_core_options() {
  model::ModelOptions options = small_options();
  options.num_layers = 2;  // dense and experts
  options.intermediate_size = 64;
  options.qk_nope_head_dim = 16;
  options.v_head_dim = 16;
  options.q_lora_rank = 24;
  options.moe.intermediate_size = 32;
  return options;
}

model::ModelOptions with_v2_router(model::ModelOptions options) {
  options.moe.score = kernels::ScoreFunction::kSoftmax;
  options.moe.group_score = kernels::GroupScore::kMax;
  options.moe.normalize_gates = false;
  options.moe.has_selection_bias = false;
  options.moe.sequence_balance_coefficient = 0.0F;
  options.moe.expert_balance_coefficient = 0.003F;
  options.moe.device_balance_coefficient = 0.05F;
  options.moe.communication_balance_coefficient = 0.02F;
  options.moe.num_device_groups = 4;
  options.moe.max_device_groups_per_token = 2;
  return options;
}

model::ModelOptions exact(model::ModelOptions options) {
  options.numerics.tensor_chunks = 4;
  options.numerics.gradients.dtype = DType::kInt64;
  options.numerics.gradients.unit_tokens = 4;
  options.numerics.gradients.tokens_per_step = kSmallSequences * kSmallLength;
  options.numerics.gradients.uses_per_token = 1 + options.mtp_depth;
  return options;
}

namespace {

bool same_bits(double a, double b) {
  return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

// NaN, or as integers the least of all.
void spoil_gradients(parallel::ParameterBuffer& parameters, Stream& stream) {
  for (parallel::ParameterGroup& group : parameters.groups()) {
    kernels::fill(group.gradients, std::numeric_limits<float>::quiet_NaN(), stream);
  }
}

TinyBatch batch_of(std::int64_t step, int depths, std::int64_t vocabulary) {
  const RandomSource random(5, concat("batch ", step));
  const auto token = [&](std::int64_t sequence, std::int64_t position) {
    return static_cast<std::int32_t>(
        random.below(static_cast<std::uint64_t>(sequence * 1000 + position),
                     static_cast<std::uint64_t>(vocabulary)));
  };
  TinyBatch batch;
  batch.num_sequences = kSmallSequences;
  batch.sequence_length = kSmallLength;
  for (int depth = -1; depth < depths; ++depth) {
    for (std::int64_t s = 0; s < kSmallSequences; ++s) {
      for (std::int64_t i = 0; i < kSmallLength; ++i) {
        if (depth < 0) {
          batch.tokens.push_back(token(s, i));
        } else {
          batch.targets.push_back(token(s, i + 1 + depth));
          batch.masks.push_back((s + i) % 7 == 0 ? 0.0F : 1.0F);
        }
      }
    }
  }
  return batch;
}

std::int64_t num_host_waits(const Stream& stream) {
  return stream.queue() == nullptr ? 0 : stream.queue()->num_waits();
}

RankFacts facts_of(TinyRun& run, const trainer::StepResult& last_step) {
  RankFacts facts;
  facts.bytes_sent = last_step.bytes_sent;
  facts.num_parameters = run.model().parameters().num_local_elements();
  for (const auto& group : run.model().parameters().groups()) {
    facts.gradient_bytes += group.gradients.size_bytes();
    for (const auto& range : group.shard_ranges) {
      facts.shard_elements += range.end - range.begin;
    }
  }
  return facts;
}

}  // namespace

Training train(const model::ModelOptions& options, const Layout& layout, const SmallTraining& how) {
  Training training;
  training.ranks.resize(static_cast<std::size_t>(layout.mesh.world_size()));
  std::mutex mutex;
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& real_world, Stream&) {
    Stream stream(how.device, layout.threads, options.numerics.sum_order());
    const std::unique_ptr<parallel::Communicator> wrapped =
        how.wrap ? how.wrap(real_world) : nullptr;
    parallel::Communicator& world = wrapped ? *wrapped : real_world;
    TinyRun run(options, layout, world, stream);
    run.model().initialize(3 + (how.seed_of_rank ? how.seed_of_rank(world.rank()) : 0));
    optim::AdamWHyperparameters hyperparameters;
    hyperparameters.epsilon = how.epsilon;
    hyperparameters.parameter_dtype = options.numerics.activation_dtype;
    hyperparameters.master_weights = options.numerics.activation_dtype != DType::kFloat32;
    optim::AdamW optimizer(run.model().parameters(), hyperparameters, stream);
    optimizer.values_drawn(stream);
    trainer::StepOptions step_options;
    step_options.learning_rate = 1e-3;
    step_options.selection_bias_rate = 1e-3;
    trainer::StepResult result;
    std::int64_t waits_before = 0;
    for (std::int64_t step = 0; step < how.num_steps; ++step) {
      TinyBatch batch = batch_of(step, options.mtp_depth + 1, options.vocab_size);
      if (step == how.nan_step) {
        const auto first = static_cast<std::size_t>((kSmallSequences - 1) * kSmallLength);
        batch.masks[first] = std::numeric_limits<float>::quiet_NaN();
      }
      if (how.has_stale_gradients) {
        spoil_gradients(run.model().parameters(), stream);
      }
      waits_before = num_host_waits(stream);
      result = run.step(batch, optimizer, step_options, 0.3);
      if (world.rank() == 0) {
        training.steps.push_back(result);
      }
    }
    const std::int64_t waits_after = num_host_waits(stream);
    const std::lock_guard lock(mutex);
    StoreTensors store(training.weights);
    parallel::HostState state(store, stream);
    optimizer.visit_state(state);
    run.model().visit_state(state);
    RankFacts facts = facts_of(run, result);
    facts.num_host_waits = waits_after - waits_before;
    training.ranks[static_cast<std::size_t>(world.rank())] = facts;
  });
  return training;
}

std::string difference(const Training& a, const Training& b) {
  for (std::size_t step = 0; step < a.steps.size(); ++step) {
    const trainer::StepResult& x = a.steps[step];
    const trainer::StepResult& y = b.steps[step];
    const bool same_mtp = std::equal(x.mtp_losses.begin(), x.mtp_losses.end(), y.mtp_losses.begin(),
                                     y.mtp_losses.end(), same_bits);
    const std::string at = concat(" of step ", step);
    if (!same_bits(x.loss, y.loss)) {
      return concat("loss", at, ": ", x.loss - y.loss, " apart");
    }
    if (!same_mtp || !same_bits(x.balance_loss, y.balance_loss)) {
      return concat(same_mtp ? "balance loss" : "MTP losses", at);
    }
    if (!same_bits(x.grad_norm, y.grad_norm)) {
      return concat("gradient norm", at, ": ", x.grad_norm - y.grad_norm, " apart");
    }
  }
  for (const auto& [key, values] : a.weights) {
    const auto other = b.weights.find(key);
    if (other == b.weights.end() || other->second.size() != values.size() ||
        std::memcmp(values.data(), other->second.data(), values.size() * sizeof(float)) != 0) {
      return key;
    }
  }
  return a.weights.size() == b.weights.size() ? "" : "the number of tensors";
}

}  // namespace fathom::testing
