#include <cstdint>
#include <string>
#include <vector>

#include "configs/load.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::config {
namespace {

Model model(const std::string& name) {
  return load_model(test::source_path("configs/models/" + name + ".textproto"));
}

std::int64_t attention_parameters(const Model& m) {
  const std::int64_t query_width =
      m.num_attention_heads() * (m.qk_nope_head_dim() + m.qk_rope_head_dim());
  const std::int64_t query = m.q_lora_rank() == 0
                                 ? m.hidden_size() * query_width
                                 : m.q_lora_rank() * (m.hidden_size() + 1 + query_width);
  const std::int64_t latent = m.hidden_size() * (m.kv_lora_rank() + m.qk_rope_head_dim());
  const std::int64_t key_value = m.kv_lora_rank() + m.kv_lora_rank() * m.num_attention_heads() *
                                                        (m.qk_nope_head_dim() + m.v_head_dim());
  return query + latent + key_value + m.num_attention_heads() * m.v_head_dim() * m.hidden_size();
}

// Without multi-token prediction and selection biases.
std::int64_t parameters(const Model& m) {
  const std::int64_t d = m.hidden_size();
  const std::int64_t expert = 3 * d * m.moe().intermediate_size();
  const std::int64_t moe =
      d * m.moe().num_experts() + expert * (m.moe().num_experts() + m.moe().num_shared_experts());
  const std::int64_t per_layer = attention_parameters(m) + 2 * d;
  return 2 * m.vocab_size() * d + d + m.num_layers() * per_layer +
         m.num_dense_layers() * 3 * d * m.intermediate_size() +
         (m.num_layers() - m.num_dense_layers()) * moe;
}

}  // namespace

// The totals follow from the published tensors (arXiv:2405.04434, 2412.19437) and round to the
// published 15.7B, 236B and 671B.
TEST_CASE("the published shapes have the published numbers of parameters") {
  CHECK(attention_parameters(model("deepseek-v2-lite")) == 13'763'072);
  CHECK(attention_parameters(model("deepseek-v2")) == 149'227'520);
  CHECK(attention_parameters(model("deepseek-v3")) == 187'107'328);
  CHECK(parameters(model("deepseek-v2-lite")) == 15'706'484'224);
  CHECK(parameters(model("deepseek-v2")) == 235'741'434'880);
  CHECK(parameters(model("deepseek-v3")) == 671'026'404'352);
}

// arXiv:2412.19437, section 4.2; 2405.04434, sections 3.1.2 and appendix B.
TEST_CASE("what trains the published models has the published values") {
  struct Value {
    std::string name;
    double found;
    double published;
  };
  const Optimizer optimizer;
  const Train train;
  const Model v3 = model("deepseek-v3");
  const Model v2 = model("deepseek-v2");
  const Model lite = model("deepseek-v2-lite");
  const std::vector<Value> values{
      {"beta1", optimizer.adamw().beta1(), 0.9},
      {"beta2", optimizer.adamw().beta2(), 0.95},
      {"weight decay", optimizer.weight_decay(), 0.1},
      {"clip norm", optimizer.clip_norm(), 1.0},
      {"lambda", train.mtp_loss_weight(), 0.3},
      {"later lambda", train.mtp_loss_weight_later(), 0.1},
      {"V3's initial deviation", v3.initializer_range(), 0.006},
      {"V3's gamma", v3.moe().selection_bias_update_rate(), 0.001},
      {"V3's alpha", v3.moe().sequence_balance_coefficient(), 1e-4},
      {"V2's initial deviation", v2.initializer_range(), 0.006},
      {"V2's alpha 1", v2.moe().expert_balance_coefficient(), 0.003},
      {"V2's alpha 2", v2.moe().device_balance_coefficient(), 0.05},
      {"V2's alpha 3", v2.moe().communication_balance_coefficient(), 0.02},
      {"V2-Lite's initial deviation", lite.initializer_range(), 0.006},
      {"V2-Lite's alpha 1", lite.moe().expert_balance_coefficient(), 0.001}};
  for (const Value& value : values) {
    CAPTURE(value.name);
    CHECK(value.found == value.published);
  }
}

TEST_CASE("V2's router is the published one") {
  const MixtureOfExperts moe = model("deepseek-v2").moe();
  CHECK(moe.gate_scale() == 16);
  CHECK_FALSE(moe.normalize_gates());
  CHECK(moe.score_function() == MixtureOfExperts::SOFTMAX);
  CHECK(moe.group_score() == MixtureOfExperts::MAX);
  CHECK(moe.num_groups() == 8);
  CHECK(moe.num_kept_groups() == 3);
  CHECK(moe.num_device_groups() == 8);
  CHECK(moe.max_device_groups_per_token() == 3);
  CHECK(moe.selection_bias_update_rate() == 0);
}

}  // namespace fathom::config
