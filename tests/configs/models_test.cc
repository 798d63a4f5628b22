#include <cstdint>
#include <string>

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

}  // namespace fathom::config
