#include "trainer/hf/model_config.h"

#include <google/protobuf/util/message_differencer.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "configs/load.h"
#include "configs/schema/model.pb.h"
#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

using namespace fathom;
using namespace fathom::test;
using namespace fathom::trainer;
using nlohmann::json;

namespace {

// config.json of deepseek-ai/DeepSeek-V3, without what only its own Python code reads.
json published_v3() {
  return json::parse(R"({"architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false,
    "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1,
    "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168,
    "initializer_range": 0.02, "intermediate_size": 18432, "kv_lora_rank": 512,
    "max_position_embeddings": 163840, "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256,
    "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "quantization_config": {"activation_scheme": "dynamic",
    "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]},
    "rms_norm_eps": 1e-06, "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40,
    "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096,
    "type": "yarn"}, "rope_theta": 10000, "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid", "tie_word_embeddings": false, "topk_group": 4,
    "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "use_cache": true,
    "v_head_dim": 128, "vocab_size": 129280})");
}

// What differs in deepseek-ai/DeepSeek-V2-Lite.
json published_v2_lite() {
  json config = published_v3();
  config.erase("num_nextn_predict_layers");
  config.erase("quantization_config");
  config.update(json::parse(R"({"model_type": "deepseek_v2", "first_k_dense_replace": 1,
    "hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_group": 1,
    "topk_group": 1, "n_routed_experts": 64, "n_shared_experts": 2, "norm_topk_prob": false,
    "num_attention_heads": 16, "num_key_value_heads": 16, "num_experts_per_tok": 6,
    "num_hidden_layers": 27, "q_lora_rank": null, "routed_scaling_factor": 1.0,
    "scoring_func": "softmax", "topk_method": "greedy", "vocab_size": 102400})"));
  config["rope_scaling"]["mscale"] = config["rope_scaling"]["mscale_all_dim"] = 0.707;
  return config;
}

// The model of configs/models/, without what only training asks for, with the YaRN that the
// published weights need.
config::Model model_of_file(const std::string& name, double mscale) {
  config::Model model = config::load_model(source_path("configs/models/" + name + ".textproto"));
  config::MixtureOfExperts& moe = *model.mutable_moe();
  moe.clear_sequence_balance_coefficient();
  moe.clear_expert_balance_coefficient();
  moe.clear_device_balance_coefficient();
  moe.clear_communication_balance_coefficient();
  moe.clear_num_device_groups();
  moe.clear_max_device_groups_per_token();
  moe.clear_selection_bias_update_rate();
  model.mutable_yarn()->set_factor(40);
  model.mutable_yarn()->set_mscale(mscale);
  return model;
}

// Defaults count as given.
bool is_same(const config::Model& a, const config::Model& b) {
  google::protobuf::util::MessageDifferencer differencer;
  differencer.set_message_field_comparison(google::protobuf::util::MessageDifferencer::EQUIVALENT);
  return differencer.Compare(a, b);
}

std::string error_of(const json& config) {
  try {
    read_model_config(config, "config.json");
    has_block_scales(config, "config.json");
    return "";
  } catch (const ConfigError& error) {
    return error.message();
  }
}

config::Model again(const config::Model& model, WeightDType dtype = WeightDType::kBFloat16) {
  return read_model_config(json::parse(write_model_config(model, dtype, {}).dump()), "again");
}

}  // namespace

TEST_CASE("published configs are the models of configs/models") {
  const config::Model v3 = read_model_config(published_v3(), "config.json");
  CHECK(is_same(v3, model_of_file("deepseek-v3", 1.0)));
  CHECK(has_block_scales(published_v3(), "config.json"));
  const config::Model lite = read_model_config(published_v2_lite(), "config.json");
  CHECK(is_same(lite, model_of_file("deepseek-v2-lite", 0.707)));
  CHECK(!has_block_scales(published_v2_lite(), "config.json"));
}

TEST_CASE("configs as transformers 5 writes them are read alike") {
  json config = published_v3();
  config.erase("scoring_func");
  config.erase("topk_method");
  config.erase("moe_layer_freq");
  config.erase("rope_theta");
  config["rope_parameters"] = config["rope_scaling"];
  config.erase("rope_scaling");
  config["rope_parameters"].erase("type");
  config["rope_parameters"].update({{"rope_type", "yarn"}, {"rope_theta", 10000.0}});
  config["rope_interleave"] = true;
  CHECK(is_same(read_model_config(config, "x"), read_model_config(published_v3(), "x")));
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5000.0}};
  CHECK(!read_model_config(config, "x").has_yarn());
  CHECK(read_model_config(config, "x").rope_theta() == 5000.0);
}

TEST_CASE("what is written is read back as the same model") {
  for (const char* name : {"deepseek-v3", "deepseek-v2", "deepseek-v2-lite"}) {
    INFO(name);
    CHECK(is_same(again(model_of_file(name, 0.9)), model_of_file(name, 0.9)));
  }
  config::Model dense = model_of_file("deepseek-v3", 1.0);
  dense.clear_moe();
  dense.clear_mtp_depth();
  dense.set_num_dense_layers(dense.num_layers());
  CHECK(is_same(again(dense), dense));
  const auto fp8 = write_model_config(model_of_file("deepseek-v3", 1.0), WeightDType::kFloat8E4M3,
                                      {.bos = 0, .eos = 1});
  CHECK(json::parse(fp8.dump()).at("quantization_config") ==
        published_v3().at("quantization_config"));
  // Every field of the published config has its value again.
  const json written = json::parse(fp8.dump());
  const json published = published_v3();
  for (const auto& [key, value] : published.items()) {
    INFO(key);
    CHECK((key == "ep_size" || written.at(key) == value));
  }
}

TEST_CASE("configs of models that Fathom does not have are refused, with the field") {
  struct Row {
    const char* patch;
    const char* message;
  };
  const std::vector<Row> rows{
      {R"({"model_type": "llama"})", "model_type is \"llama\""},
      {R"({"model_type": "deepseek_v32"})", "model_type is \"deepseek_v32\""},
      {R"({"model_type": null})", "model_type is missing"},
      {R"({"hidden_act": "gelu"})", "hidden_act is \"gelu\"; Fathom has \"silu\" only"},
      {R"({"tie_word_embeddings": true})", "tie_word_embeddings is true"},
      {R"({"attention_bias": true})", "attention_bias is true"},
      {R"({"num_key_value_heads": 8})", "num_key_value_heads is 8"},
      {R"({"moe_layer_freq": 2})", "moe_layer_freq is 2"},
      {R"({"rms_norm_eps": 1e-5})", "rms_norm_eps is 1e-05"},
      {R"({"hidden_size": 0})", "hidden_size is 0, not a whole number in [1, "},
      {R"({"hidden_size": -1})", "hidden_size is -1"},
      {R"({"hidden_size": 7168.0})", "hidden_size is 7168.0"},
      {R"({"hidden_size": 2147483648})", "hidden_size is 2147483648"},
      {R"({"hidden_size": 18446744073709551615})", "hidden_size is 18446744073709551615"},
      {R"({"hidden_size": "7168"})", "hidden_size is \"7168\""},
      {R"({"hidden_size": null})", "hidden_size is missing"},
      {R"({"norm_topk_prob": 1})", "norm_topk_prob is 1, neither true nor false"},
      {R"({"routed_scaling_factor": "big"})", "routed_scaling_factor is \"big\", not a number"},
      {R"({"scoring_func": "softmax"})", "scoring_func is \"softmax\""},
      {R"({"topk_method": "greedy"})", "topk_method is \"greedy\""},
      {R"({"topk_group": 9})", "topk_group is 9, above n_group (8)"},
      {R"({"rope_interleave": false})", "rope_interleave is false"},
      {R"({"rope_scaling": {"type": "linear", "factor": 2}})", "rope_type is \"linear\""},
      {R"({"rope_scaling": {"mscale": 0.5}})", "mscale and mscale_all_dim are not equal"},
      {R"({"rope_scaling": {"attention_factor": 2.0}})", "attention_factor is 2.0"},
      {R"({"rope_scaling": {"truncate": false}})", "truncate is false"},
      {R"({"rope_scaling": [1]})", "rope_scaling: no JSON object"},
      {R"({"quantization_config": {"quant_method": "gptq"}})", "quant_method is \"gptq\""},
      {R"({"quantization_config": {"weight_block_size": [64, 64]}})", "weight_block_size is array"},
      {R"({"quantization_config": {"fmt": "e5m2"}})", "fmt is \"e5m2\""},
  };
  REQUIRE(error_of(published_v3()).empty());
  for (const Row& row : rows) {
    INFO(row.patch);
    json config = published_v3();
    const json patch = json::parse(row.patch);
    for (const auto& [key, value] : patch.items()) {
      if (value.is_object()) {
        config[key].update(value);
      } else {
        config[key] = value;
      }
    }
    CHECK_THAT(error_of(config), Catch::Contains(row.message));
  }
  CHECK_THAT(error_of(json::array()), Catch::Contains("no JSON object"));
  json lite = published_v2_lite();
  lite["norm_topk_prob"] = true;
  CHECK_THAT(error_of(lite), Catch::Contains("norm_topk_prob is true"));
  lite = published_v2_lite();
  lite.update({{"topk_method", "group_limited_greedy"}, {"topk_group", 2}});
  CHECK_THAT(error_of(lite), Catch::Contains("topk_group is 2, above n_group (1)"));
  lite = published_v2_lite();
  lite.erase("q_lora_rank");
  CHECK_THAT(error_of(lite), Catch::Contains("q_lora_rank is missing; null says"));
}

TEST_CASE("models that config.json cannot describe are refused, with the field") {
  struct Row {
    const char* field;
    void (*change)(config::Model&);
  };
  const std::vector<Row> rows{
      {"model.rms_norm_epsilon", [](config::Model& m) { m.set_rms_norm_epsilon(1e-5); }},
      {"model.yarn.mscale", [](config::Model& m) { m.mutable_yarn()->set_mscale(0); }},
      {"model.moe.forced_balance",
       [](config::Model& m) { m.mutable_moe()->set_forced_balance(true); }},
      {"model.moe.num_shared_experts",
       [](config::Model& m) { m.mutable_moe()->set_num_shared_experts(0); }},
      {"model.moe.group_score",
       [](config::Model& m) { m.mutable_moe()->set_group_score(config::MixtureOfExperts::MAX); }},
      {"model.moe.group_score",
       [](config::Model& m) {
         m.clear_mtp_depth();
         m.mutable_moe()->set_normalize_gates(false);
         m.mutable_moe()->set_score_function(config::MixtureOfExperts::SOFTMAX);
       }},
      {"model.moe.normalize_gates",
       [](config::Model& m) {
         m.clear_mtp_depth();
         m.mutable_moe()->set_group_score(config::MixtureOfExperts::MAX);
         m.mutable_moe()->set_score_function(config::MixtureOfExperts::SOFTMAX);
       }},
      {"model.mtp_depth",
       [](config::Model& m) {
         m.mutable_moe()->set_score_function(config::MixtureOfExperts::SOFTMAX);
       }},
      {"model.mtp_depth", [](config::Model& m) { m.clear_moe(); }},
  };
  for (const Row& row : rows) {
    config::Model model = model_of_file("deepseek-v3", 1.0);
    row.change(model);
    try {
      write_model_config(model, WeightDType::kBFloat16, {});
      FAIL(row.field);
    } catch (const ConfigError& error) {
      CHECK(error.message().starts_with(row.field));
    }
  }
}
