#include <string>

#include "configs/rules.h"

namespace fathom::config {
namespace {

void check_attention(const Model& model, Problems& problems) {
  require_size(problems, "model.num_attention_heads", model.num_attention_heads());
  require_not_negative(problems, "model.q_lora_rank", static_cast<double>(model.q_lora_rank()));
  require_size(problems, "model.kv_lora_rank", model.kv_lora_rank());
  require_size(problems, "model.qk_nope_head_dim", model.qk_nope_head_dim());
  if (require_size(problems, "model.qk_rope_head_dim", model.qk_rope_head_dim())) {
    problems.require(model.qk_rope_head_dim() % 2 == 0, "model.qk_rope_head_dim (",
                     model.qk_rope_head_dim(), ") must be even: positions turn pairs");
  }
  require_size(problems, "model.v_head_dim", model.v_head_dim());
  problems.require(!(model.rope_theta() <= 1), "model.rope_theta (", model.rope_theta(),
                   ") must be above 1");
  require_not_negative(problems, "model.max_position", static_cast<double>(model.max_position()));
}

void check_yarn(const Yarn& yarn, Problems& problems) {
  problems.require(!(yarn.factor() < 1), "model.yarn.factor (", yarn.factor(),
                   ") must be at least 1");
  require_size(problems, "model.yarn.original_max_position", yarn.original_max_position());
  if (require_positive(problems, "model.yarn.beta_slow", yarn.beta_slow())) {
    problems.require(!(yarn.beta_fast() <= yarn.beta_slow()), "model.yarn.beta_fast (",
                     yarn.beta_fast(), ") must be above model.yarn.beta_slow (", yarn.beta_slow(),
                     ')');
  }
  require_not_negative(problems, "model.yarn.mscale", yarn.mscale());
}

void check_groups(const MixtureOfExperts& moe, Problems& problems) {
  const std::int64_t kept = moe.num_kept_groups();
  if (!require_size(problems, "model.moe.num_groups", moe.num_groups()) ||
      !require_size(problems, "model.moe.num_kept_groups", kept) || moe.num_experts() <= 0) {
    return;
  }
  if (!problems.require(moe.num_experts() % moe.num_groups() == 0, "model.moe.num_groups (",
                        moe.num_groups(), ") does not divide model.moe.num_experts (",
                        moe.num_experts(), ')') ||
      !problems.require(kept <= moe.num_groups(), "model.moe.num_kept_groups (", kept,
                        ") is above model.moe.num_groups (", moe.num_groups(), ')')) {
    return;
  }
  const std::int64_t group_size = moe.num_experts() / moe.num_groups();
  problems.require(moe.top_k() <= kept * group_size, "model.moe.top_k (", moe.top_k(),
                   ") is above the experts a token can reach: model.moe.num_kept_groups (", kept,
                   ") x ", group_size, " experts a group = ", kept * group_size);
  problems.require(moe.num_groups() == 1 || group_size >= 2 ||
                       moe.group_score() != MixtureOfExperts::SUM_OF_TOP2,
                   "model.moe.group_score SUM_OF_TOP2 needs 2 experts a group: num_experts (",
                   moe.num_experts(), ") / num_groups (", moe.num_groups(), ") is ", group_size);
}

void check_balance(const MixtureOfExperts& moe, Problems& problems) {
  const std::string prefix = "model.moe.";
  require_not_negative(problems, prefix + "sequence_balance_coefficient",
                       moe.sequence_balance_coefficient());
  require_not_negative(problems, prefix + "expert_balance_coefficient",
                       moe.expert_balance_coefficient());
  require_not_negative(problems, prefix + "device_balance_coefficient",
                       moe.device_balance_coefficient());
  require_not_negative(problems, prefix + "communication_balance_coefficient",
                       moe.communication_balance_coefficient());
  require_not_negative(problems, prefix + "selection_bias_update_rate",
                       moe.selection_bias_update_rate());
  if (require_size(problems, prefix + "num_device_groups", moe.num_device_groups())) {
    require_divides(problems, prefix + "num_device_groups", moe.num_device_groups(),
                    prefix + "num_experts", moe.num_experts());
    const std::int64_t reach = moe.max_device_groups_per_token();
    problems.require(reach >= 1 && reach <= moe.num_device_groups(), prefix,
                     "max_device_groups_per_token (", reach, ") is not in [1, ", prefix,
                     "num_device_groups (", moe.num_device_groups(), ")]");
  }
}

void check_moe(const MixtureOfExperts& moe, Problems& problems) {
  require_size(problems, "model.moe.num_experts", moe.num_experts());
  require_size(problems, "model.moe.intermediate_size", moe.intermediate_size());
  if (require_not_negative(problems, "model.moe.num_shared_experts",
                           static_cast<double>(moe.num_shared_experts())) &&
      moe.num_shared_experts() > 0) {
    require_size(problems, "model.moe.num_shared_experts", moe.num_shared_experts());
  }
  require_size(problems, "model.moe.top_k", moe.top_k());
  require_positive(problems, "model.moe.gate_scale", moe.gate_scale());
  check_groups(moe, problems);
  check_balance(moe, problems);
}

}  // namespace

void check_model(const Model& model, Problems& problems) {
  require_size(problems, "model.vocab_size", model.vocab_size());
  require_size(problems, "model.hidden_size", model.hidden_size());
  if (require_size(problems, "model.num_layers", model.num_layers())) {
    problems.require(
        model.num_dense_layers() >= 0 && model.num_dense_layers() <= model.num_layers(),
        "model.num_dense_layers (", model.num_dense_layers(), ") is not in [0, model.num_layers (",
        model.num_layers(), ")]");
  }
  if (model.num_dense_layers() > 0 || !model.has_moe()) {
    require_size(problems, "model.intermediate_size", model.intermediate_size());
  }
  check_attention(model, problems);
  if (model.has_yarn()) {
    check_yarn(model.yarn(), problems);
  }
  require_positive(problems, "model.rms_norm_epsilon", model.rms_norm_epsilon());
  require_positive(problems, "model.initializer_range", model.initializer_range());
  require_not_negative(problems, "model.mtp_depth", static_cast<double>(model.mtp_depth()));
  if (model.has_moe()) {
    check_moe(model.moe(), problems);
  } else {
    problems.require(model.num_dense_layers() >= model.num_layers(),
                     "model.moe is not set, and only model.num_dense_layers (",
                     model.num_dense_layers(), ") of model.num_layers (", model.num_layers(),
                     ") are dense");
  }
}

}  // namespace fathom::config
