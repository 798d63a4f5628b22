#include "tests/trainer/drawn_run.h"

#include <algorithm>

#include "configs/resolve.h"
#include "configs/validate.h"
#include "core/error.h"
#include "tests/trainer/choices.h"
#include "tests/trainer/made_up_prompt.h"

namespace fathom::testing {
namespace {

constexpr int kMaxRanks = 16;
constexpr std::int64_t kMaxTokens = 600;  // of a step

// One of the numbers that divide `size`.
std::int64_t divisor_of(std::int64_t size, Choices& draws) {
  std::int64_t divisor = draws.between(1, size);
  while (size % divisor != 0) {
    --divisor;
  }
  return divisor;
}

void draw_attention(std::int64_t chunks, Choices& draws, config::Model& model) {
  model.set_num_attention_heads(chunks * draws.between(1, chunks > 2 ? 2 : 4));
  model.set_q_lora_rank(draws.one_in(3) ? 0 : draws.between(1, 20));
  model.set_kv_lora_rank(draws.between(1, 20));
  model.set_qk_nope_head_dim(draws.between(1, 17));
  model.set_qk_rope_head_dim(2 * draws.between(1, 6));
  model.set_v_head_dim(draws.between(1, 17));
  model.set_rope_theta(draws.one_of({2.0, 10000.0, 1e6}));
  if (draws.one_in(3)) {
    config::Yarn& yarn = *model.mutable_yarn();
    yarn.set_factor(draws.one_of({1.0, 1.5, 40.0}));
    yarn.set_original_max_position(draws.between(1, 64));
    yarn.set_beta_fast(draws.one_of({2.0, 32.0}));
    yarn.set_mscale(draws.one_of({0.0, 0.707, 1.0}));
  }
}

void draw_balance(Choices& draws, config::MixtureOfExperts& moe) {
  const auto coefficient = [&] { return draws.one_in(2) ? 0.0 : draws.one_of({1e-4, 0.01, 0.5}); };
  moe.set_sequence_balance_coefficient(coefficient());
  moe.set_expert_balance_coefficient(coefficient());
  moe.set_device_balance_coefficient(coefficient());
  moe.set_communication_balance_coefficient(coefficient());
  moe.set_num_device_groups(divisor_of(moe.num_experts(), draws));
  moe.set_max_device_groups_per_token(draws.between(1, moe.num_device_groups()));
  moe.set_selection_bias_update_rate(draws.one_of({0.0, 0.001, 0.1}));
}

void draw_experts(std::int64_t chunks, Choices& draws, config::MixtureOfExperts& moe) {
  using Moe = config::MixtureOfExperts;
  moe.set_num_experts(draws.one_of({1, 2, 3, 4, 6, 8, 8, 12, 16}));
  moe.set_num_shared_experts(draws.between(0, 3));
  moe.set_intermediate_size(draws.between(1, 9) * (draws.one_in(2) ? chunks : 1));
  moe.set_score_function(draws.one_of({Moe::SIGMOID, Moe::SOFTMAX}));
  moe.set_group_score(draws.one_of({Moe::SUM_OF_TOP2, Moe::MAX}));
  moe.set_num_groups(draws.one_in(3) ? 1 : divisor_of(moe.num_experts(), draws));
  moe.set_num_kept_groups(draws.between(1, moe.num_groups()));
  moe.set_top_k(draws.between(1, std::min<std::int64_t>(6, moe.num_experts())));
  moe.set_normalize_gates(!draws.one_in(3));
  moe.set_gate_scale(draws.one_of({1.0, 2.5, 16.0}));
  moe.set_forced_balance(draws.one_in(10));
  draw_balance(draws, moe);
}

void draw_model(std::int64_t chunks, Choices& draws, config::Model& model) {
  model.set_vocab_size(chunks * draws.between(2, 40));
  model.set_hidden_size(draws.one_in(10) ? 1 : draws.between(2, 40));
  model.set_num_layers(draws.between(1, 6));
  model.set_intermediate_size(chunks * draws.between(1, 12));
  draw_attention(chunks, draws, model);
  if (draws.one_in(6)) {
    model.set_num_dense_layers(model.num_layers());
  } else {
    model.set_num_dense_layers(draws.between(0, std::min<std::int64_t>(2, model.num_layers())));
    draw_experts(chunks, draws, *model.mutable_moe());
  }
  model.set_rms_norm_epsilon(draws.one_of({1e-6, 1e-3}));
  model.set_initializer_range(draws.one_of({0.006, 0.1, 0.3}));
  model.set_mtp_depth(draws.one_of({0, 0, 1, 1, 2, 3}));
}

void draw_batch(Choices& draws, config::RunConfig& config) {
  config::Train& train = *config.mutable_train();
  train.set_steps(draws.between(2, 3));
  train.set_sequence_length(draws.one_in(4)   ? draws.between(65, 150)
                            : draws.one_in(2) ? 4 * draws.between(1, 10)
                                              : draws.between(1, 40));
  const std::int64_t micro_batches = draws.one_of({1, 2, 3, 4, 6, 8, 8, 12, 16});
  train.set_micro_batch_size(draws.one_of({1, 1, 1, 2, 3}));
  train.set_global_batch_size(train.micro_batch_size() * micro_batches);
  if (draws.one_in(5)) {
    config::BatchRamp& ramp = *train.mutable_batch_ramp();
    ramp.set_start_global_batch_size(divisor_of(train.global_batch_size(), draws));
    ramp.set_ramp_tokens(train.sequence_length() * draws.between(1, 20));
  }
  train.set_mtp_loss_weight(draws.one_of({0.0, 0.3, 1.0}));
  train.set_mtp_loss_weight_later_tokens(draws.one_in(3) ? draws.between(1, 300) : 0);
  train.set_selection_bias_freeze_tokens(draws.one_in(3) ? draws.between(1, 300) : 0);
  config.mutable_model()->set_max_position(
      draws.one_in(3) ? 0 : train.sequence_length() + draws.between(0, 60));
}

void draw_optimizer(Choices& draws, config::Optimizer& optimizer) {
  optimizer.set_lr(draws.one_of({1e-4, 1e-3, 1e-2}));
  optimizer.set_weight_decay(draws.one_of({0.0, 0.1, 0.5}));
  optimizer.set_clip_norm(draws.one_of({0.0, 1e-3, 1.0}));
  config::AdamW& adamw = *optimizer.mutable_adamw();
  adamw.set_beta1(draws.one_of({0.0, 0.9}));
  adamw.set_beta2(draws.one_of({0.0, 0.95}));
  adamw.set_epsilon(draws.one_of({1e-8, 1e-3}));
  optimizer.set_parameter_dtype(draws.one_in(4) ? config::BFLOAT16 : config::FLOAT32);
  optimizer.set_master_weights(optimizer.parameter_dtype() == config::BFLOAT16 || draws.one_in(5));
  optimizer.set_moment_dtype(draws.one_in(3) ? config::BFLOAT16 : config::FLOAT32);
  if (draws.one_in(3)) {
    optimizer.mutable_schedule()->set_warmup_steps(2);
  }
}

void draw_numerics(std::int64_t chunks, Choices& draws, config::RunConfig& config) {
  config::Numerics& numerics = *config.mutable_numerics();
  const config::Train& train = config.train();
  if (!draws.one_in(3)) {
    numerics.set_tensor_chunks(chunks);
  }
  const std::int64_t length = train.sequence_length();
  if (draws.one_in(2)) {  // of a rank's part of one sequence, where 4 tensor ranks cut it
    numerics.set_gradient_unit_tokens(divisor_of(length % 4 == 0 ? length / 4 : length, draws));
  } else if (draws.one_in(2)) {
    numerics.set_gradient_unit_tokens(divisor_of(length * train.micro_batch_size(), draws));
  }
  if (draws.one_in(3)) {
    numerics.set_gradient_fraction_bits(draws.one_of({32, 40, 56, 60}));
  }
}

// What chooses the bits, on one rank.
config::RunConfig draw_bits(Choices& draws) {
  config::RunConfig config;
  const std::int64_t chunks = draws.one_of({1, 2, 4, 4, 4, 8});
  draw_model(chunks, draws, *config.mutable_model());
  draw_batch(draws, config);
  draw_optimizer(draws, *config.mutable_optimizer());
  draw_numerics(chunks, draws, config);
  config.mutable_run()->set_seed(static_cast<std::uint64_t>(draws.between(0, 1000)));
  config.mutable_run()->set_directory("run");
  config.mutable_run()->set_threads(1);
  config::Data& data = *config.mutable_data();
  data.add_train()->set_path("made up");
  data.add_validation("made up");
  data.set_isolate_documents(draws.one_in(2));
  config.mutable_evaluation()->set_interval(draws.between(0, 1));
  config.mutable_evaluation()->set_num_sequences(draws.between(0, 5));
  config.mutable_checkpoint()->set_save_at_end(false);
  config.mutable_train()->mutable_trace()->set_enabled(true);
  return config;
}

void draw_stages(Choices& draws, const config::Model& model, config::Mesh& mesh) {
  mesh.set_pipeline(draws.one_of({1, 1, 2, 2, 3, 4}));
  mesh.set_stages_per_rank(mesh.pipeline() == 1 ? 1 : draws.one_of({1, 1, 2, 3}));
  const std::int64_t num_stages = std::int64_t{mesh.pipeline()} * mesh.stages_per_rank();
  if (num_stages > model.num_layers() || draws.one_in(2)) {
    return;
  }
  std::vector<std::int32_t> layers(static_cast<std::size_t>(num_stages), 1);
  for (std::int64_t layer = num_stages; layer < model.num_layers(); ++layer) {
    ++layers[static_cast<std::size_t>(draws.between(0, num_stages - 1))];
  }
  mesh.mutable_layers_per_stage()->Assign(layers.begin(), layers.end());
}

void draw_recomputation(Choices& draws, config::Recompute& recompute) {
  recompute.set_norms(draws.one_in(3));
  recompute.set_swiglu(draws.one_in(3));
  recompute.set_mla_up_projections(draws.one_in(3));
  const std::int64_t kind = draws.between(1, 4);
  recompute.set_layers(kind == 1);
  recompute.set_experts(kind == 2);
}

// How to take it; changes nothing that draw_bits() set but the micro-batch and the threads.
void draw_layout(Choices& draws, config::RunConfig& config) {
  config::Mesh& mesh = *config.mutable_mesh();
  draw_stages(draws, config.model(), mesh);
  mesh.set_tensor(static_cast<std::int32_t>(draws.one_of({1, 1, 2, 2, 4, 8})));
  mesh.set_data(static_cast<std::int32_t>(divisor_of(config.train().global_batch_size(), draws)));
  mesh.set_expert(
      static_cast<std::int32_t>(divisor_of(std::int64_t{mesh.data()} * mesh.tensor(), draws)));
  mesh.set_group_elements(draws.one_of({0, 1, 100, 3000}));
  config.mutable_train()->set_micro_batch_size(
      divisor_of(config.train().global_batch_size() / mesh.data(), draws));
  draw_recomputation(draws, *config.mutable_train()->mutable_recompute());
  config.mutable_run()->set_threads(static_cast<std::int32_t>(draws.between(1, 3)));
  config.mutable_data()->set_prefetch(draws.one_in(2));
}

// Resolves the config; false where the rules refuse it.
bool accept(config::RunConfig& config, int num_ranks) {
  config::resolve(
      config, {.world_size = num_ranks, .ranks_per_node = num_ranks, .cores_per_node = num_ranks});
  return config::find_problems(config, num_ranks).empty();
}

trainer::GenerationOptions draw_generation(Choices& draws, const config::RunConfig& config) {
  trainer::GenerationOptions options;
  const std::int64_t vocabulary = config.model().vocab_size();
  options.seed = config.run().seed();
  options.max_new_tokens = draws.between(1, 12);
  options.num_allowed = draws.one_in(2) ? 0 : draws.between(1, vocabulary);
  if (const std::int64_t end = draws.between(-1, vocabulary - 1); end >= 0) {
    options.end_tokens = {static_cast<std::int32_t>(end)};
  }
  if (draws.one_in(3)) {
    options.sampling.temperature = draws.one_of({0.0F, 0.5F, 1.3F});
    options.sampling.top_k = static_cast<int>(draws.between(0, 5));
    options.sampling.top_p = draws.one_of({0.3F, 1.0F});
  }
  return options;
}

// How to sample; changes nothing of what is sampled.
void draw_generation_layout(Choices& draws, const config::RunConfig& config,
                            trainer::GenerationOptions& options) {
  constexpr std::int64_t kPage = 64;
  options.max_sequences = draws.between(1, 6);
  options.max_step_tokens = draws.between(1, 100);
  const std::int64_t longest = (config.model().max_position() + kPage - 1) / kPage;
  options.cache_tokens = draws.one_in(2) ? 0 : kPage * (longest + draws.between(0, 2));
}

std::vector<trainer::Prompt> draw_prompts(Choices& draws, const config::Model& model) {
  std::vector<trainer::Prompt> prompts;
  for (std::int64_t i = draws.between(1, 5); i > 0; --i) {
    trainer::Prompt prompt{.id = concat("prompt ", i), .sample = draws.between(0, 3), .tokens = {}};
    if (!prompts.empty() && draws.one_in(3)) {  // begins like another
      prompt.tokens = prompts.front().tokens;
    }
    const std::int64_t length = draws.between(std::ssize(prompt.tokens), model.max_position());
    while (std::ssize(prompt.tokens) < std::max<std::int64_t>(1, length)) {
      prompt.tokens.push_back(static_cast<std::int32_t>(draws.between(0, model.vocab_size() - 1)));
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

// Axes of at least these sizes, so that layouts of few ranks, which the rules accept most often,
// are not the only ones.
config::Mesh draw_wish(Choices& draws) {
  config::Mesh wish;
  wish.set_pipeline(draws.one_of({1, 1, 2, 3}));
  wish.set_data(draws.one_of({1, 1, 2, 3}));
  wish.set_tensor(draws.one_of({1, 2, 4}));
  wish.set_expert(draws.one_of({1, 2, 4}));
  wish.set_stages_per_rank(draws.one_of({1, 1, 2}));
  return wish;
}

bool fulfils(const config::Mesh& mesh, const config::Mesh& wish) {
  return mesh.pipeline() >= wish.pipeline() && mesh.data() >= wish.data() &&
         mesh.tensor() >= wish.tensor() && mesh.expert() >= wish.expert() &&
         mesh.stages_per_rank() >= wish.stages_per_rank();
}

// A layout that the rules accept; num_ranks 0 where none is found.
DrawnLayout find_layout(Choices& draws, const DrawnLayout& alone) {
  constexpr int kTries = 300;  // for a wish
  constexpr int kWishes = 20;
  config::Mesh wish;
  for (int i = 0; i < kTries * kWishes; ++i) {
    if (i % kTries == 0) {
      wish = draw_wish(draws);
    }
    DrawnLayout layout = alone;
    draw_layout(draws, layout.config);
    const config::Mesh& mesh = layout.config.mesh();
    layout.num_ranks = mesh.pipeline() * mesh.data() * mesh.tensor();
    if (layout.num_ranks <= kMaxRanks && fulfils(mesh, wish) &&
        accept(layout.config, layout.num_ranks)) {
      draw_generation_layout(draws, layout.config, layout.generation);
      return layout;
    }
  }
  return {.config = {}, .num_ranks = 0, .generation = {}};
}

}  // namespace

DrawnRun draw_run(std::uint64_t seed, int num_layouts) {
  Choices draws(seed, "run");
  DrawnRun run;
  do {
    run.alone.config = draw_bits(draws);
  } while (run.alone.config.train().global_batch_size() *
                   run.alone.config.train().sequence_length() >
               kMaxTokens ||
           !accept(run.alone.config, 1));
  run.alone.generation = draw_generation(draws, run.alone.config);
  if (!run.alone.config.model().moe().forced_balance()) {  // it deals experts by place in the batch
    run.prompts = draw_prompts(draws, run.alone.config.model());
  }
  for (int i = 0; i < num_layouts; ++i) {
    DrawnLayout layout = find_layout(draws, run.alone);
    if (layout.num_ranks > 0) {
      run.others.push_back(std::move(layout));
    }
  }
  return run;
}

}  // namespace fathom::testing
