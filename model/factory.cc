#include "model/factory.h"

namespace fathom::model {
namespace {

MoeOptions make_moe_options(const config::MixtureOfExperts& config) {
  MoeOptions moe;
  moe.num_experts = static_cast<int>(config.num_experts());
  moe.num_shared_experts = static_cast<int>(config.num_shared_experts());
  moe.top_k = static_cast<int>(config.top_k());
  moe.intermediate_size = static_cast<int>(config.intermediate_size());
  moe.score = config.score_function() == config::MixtureOfExperts::SIGMOID
                  ? kernels::ScoreFunction::kSigmoid
                  : kernels::ScoreFunction::kSoftmax;
  moe.group_score = config.group_score() == config::MixtureOfExperts::SUM_OF_TOP2
                        ? kernels::GroupScore::kSumOfTop2
                        : kernels::GroupScore::kMax;
  moe.num_groups = static_cast<int>(config.num_groups());
  moe.num_kept_groups = static_cast<int>(config.num_kept_groups());
  moe.normalize_gates = config.normalize_gates();
  moe.gate_scale = static_cast<float>(config.gate_scale());
  moe.forced_balance = config.forced_balance();
  moe.sequence_balance_coefficient = static_cast<float>(config.sequence_balance_coefficient());
  moe.expert_balance_coefficient = static_cast<float>(config.expert_balance_coefficient());
  moe.device_balance_coefficient = static_cast<float>(config.device_balance_coefficient());
  moe.communication_balance_coefficient =
      static_cast<float>(config.communication_balance_coefficient());
  moe.num_device_groups = static_cast<int>(config.num_device_groups());
  moe.max_device_groups_per_token = static_cast<int>(config.max_device_groups_per_token());
  // V2's softmax router has no bias, neither in the published weights.
  moe.has_selection_bias = moe.score == kernels::ScoreFunction::kSigmoid;
  return moe;
}

}  // namespace

ModelOptions make_model_options(const config::Model& config) {
  ModelOptions options;
  options.vocab_size = config.vocab_size();
  options.hidden_size = static_cast<int>(config.hidden_size());
  options.num_layers = static_cast<int>(config.num_layers());
  options.num_dense_layers = static_cast<int>(config.num_dense_layers());
  options.intermediate_size = static_cast<int>(config.intermediate_size());
  options.num_attention_heads = static_cast<int>(config.num_attention_heads());
  options.q_lora_rank = static_cast<int>(config.q_lora_rank());
  options.kv_lora_rank = static_cast<int>(config.kv_lora_rank());
  options.qk_nope_head_dim = static_cast<int>(config.qk_nope_head_dim());
  options.qk_rope_head_dim = static_cast<int>(config.qk_rope_head_dim());
  options.v_head_dim = static_cast<int>(config.v_head_dim());
  options.rope_theta = config.rope_theta();
  options.max_position = config.max_position();
  options.yarn.factor = config.yarn().factor();
  options.yarn.beta_fast = config.yarn().beta_fast();
  options.yarn.beta_slow = config.yarn().beta_slow();
  options.yarn.original_max_position = static_cast<double>(config.yarn().original_max_position());
  options.yarn_mscale = config.yarn().mscale();
  options.rms_norm_epsilon = static_cast<float>(config.rms_norm_epsilon());
  options.initializer_range = static_cast<float>(config.initializer_range());
  options.mtp_depth = static_cast<int>(config.mtp_depth());
  if (config.has_moe()) {
    options.moe = make_moe_options(config.moe());
  }
  return options;
}

NumericsOptions make_numerics_options(const config::RunConfig& config) {
  NumericsOptions options;
  const config::Numerics& numerics = config.numerics();
  options.is_deterministic = numerics.deterministic();
  if (config.run().device() == config::Run::CUDA &&
      config.optimizer().parameter_dtype() == config::BFLOAT16) {
    options.activation_dtype = DType::kBFloat16;
  }
  if (numerics.mode() == config::Numerics::FAST) {
    return options;
  }
  options.tensor_chunks = static_cast<int>(numerics.tensor_chunks());
  options.gradients.dtype = DType::kInt64;
  options.gradients.unit_tokens = numerics.gradient_unit_tokens();
  options.gradients.fraction_bits = static_cast<int>(numerics.gradient_fraction_bits());
  options.gradients.tokens_per_step =
      config.train().global_batch_size() * config.train().sequence_length();
  options.gradients.uses_per_token = 1 + static_cast<int>(config.model().mtp_depth());
  return options;
}

ModelOptions make_model_options(const config::RunConfig& config) {
  ModelOptions options = make_model_options(config.model());
  options.numerics = make_numerics_options(config);
  return options;
}

}  // namespace fathom::model
