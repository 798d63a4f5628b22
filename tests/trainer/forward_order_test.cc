#include "trainer/forward_order.h"

#include <algorithm>

#include "tests/support/catch.h"

TEST_CASE("published names are sorted as a forward pass comes to them") {
  const std::vector<std::string> expected = {"model.embed_tokens.weight",
                                             "model.layers.0.input_layernorm.weight",
                                             "model.layers.0.self_attn.q_a_proj.weight",
                                             "model.layers.0.self_attn.q_a_layernorm.weight",
                                             "model.layers.0.self_attn.q_b_proj.weight",
                                             "model.layers.0.self_attn.kv_a_proj_with_mqa.weight",
                                             "model.layers.0.self_attn.kv_a_layernorm.weight",
                                             "model.layers.0.self_attn.kv_b_proj.weight",
                                             "model.layers.0.self_attn.o_proj.weight",
                                             "model.layers.0.post_attention_layernorm.weight",
                                             "model.layers.0.mlp.gate_proj.weight",
                                             "model.layers.0.mlp.up_proj.weight",
                                             "model.layers.0.mlp.down_proj.weight",
                                             "model.layers.0.mlp.something_new.weight",
                                             "model.layers.2.self_attn.q_proj.weight",
                                             "model.layers.2.mlp.gate.e_score_correction_bias",
                                             "model.layers.2.mlp.gate.weight",
                                             "model.layers.2.mlp.experts.2.gate_proj.weight",
                                             "model.layers.2.mlp.experts.2.down_proj.weight",
                                             "model.layers.2.mlp.experts.10.gate_proj.weight",
                                             "model.layers.2.mlp.shared_experts.up_proj.weight",
                                             "model.layers.10.input_layernorm.weight",
                                             "model.norm.weight",
                                             "lm_head.weight",
                                             "model.layers.11.enorm.weight",
                                             "model.layers.11.hnorm.weight",
                                             "model.layers.11.eh_proj.weight",
                                             "model.layers.11.input_layernorm.weight",
                                             "model.layers.11.mlp.gate.weight",
                                             "model.layers.11.shared_head.norm.weight",
                                             "model.layers.12.enorm.weight"};
  std::vector<std::string> keys = expected;
  std::sort(keys.begin(), keys.end());
  fathom::trainer::sort_in_forward_order(keys, 11);
  CHECK(keys == expected);
}
