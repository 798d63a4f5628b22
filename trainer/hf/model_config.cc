#include "trainer/hf/model_config.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "configs/schema/model.pb.h"
#include "core/error.h"
#include "trainer/hf/block_scale.h"

namespace fathom::trainer {
namespace {

using config::MixtureOfExperts;
using nlohmann::json;

const char* const kV2 = "deepseek_v2";
const char* const kV3 = "deepseek_v3";
constexpr double kNormEpsilon = 1e-6;

// The fields of a JSON object from elsewhere; those that are null count as absent.
class Fields {
 public:
  Fields(const json& object, std::string origin) : object_(object), origin_(std::move(origin)) {
    if (!object.is_object()) {
      throw ConfigError(concat(origin_, ": no JSON object"));
    }
  }

  template <class... Parts>
  [[noreturn]] void fail(std::string_view name, const Parts&... parts) const {
    throw ConfigError(concat(origin_, ": ", name, " ", parts...));
  }

  const json* find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  bool names(const char* name) const { return object_.contains(name); }  // null counts, too

  const json& at(const char* name) const {
    const json* value = find(name);
    if (value == nullptr) {
      fail(name, "is missing");
    }
    return *value;
  }

  // In [minimum, 2^31).
  std::int64_t integer(const char* name, std::int64_t minimum = 1) const {
    const json& value = at(name);
    const bool is_possible =
        value.is_number_integer() &&
        (!value.is_number_unsigned() || value.get<std::uint64_t>() <= std::uint64_t{INT32_MAX}) &&
        value.get<std::int64_t>() >= minimum && value.get<std::int64_t>() <= INT32_MAX;
    if (!is_possible) {
      fail(name, "is ", shown(value), ", not a whole number in [", minimum, ", ", INT32_MAX, "]");
    }
    return value.get<std::int64_t>();
  }

  double number(const char* name) const {
    const json& value = at(name);
    if (!value.is_number() || !std::isfinite(value.get<double>())) {
      fail(name, "is ", shown(value), ", not a number");
    }
    return value.get<double>();
  }
  double number_or(const char* name, double other) const {
    return find(name) == nullptr ? other : number(name);
  }

  bool boolean(const char* name) const {
    const json& value = at(name);
    if (!value.is_boolean()) {
      fail(name, "is ", shown(value), ", neither true nor false");
    }
    return value.get<bool>();
  }

  std::string text(const char* name) const {
    const json& value = at(name);
    if (!value.is_string()) {
      fail(name, "is ", shown(value), ", no text");
    }
    return value.get<std::string>();
  }

  // Absent, or what we compute.
  void require(const char* name, const json& only) const {
    const json* value = find(name);
    if (value != nullptr && *value != only) {
      fail(name, "is ", shown(*value), "; Fathom has ", only.dump(), " only");
    }
  }

  static std::string shown(const json& value) {
    constexpr std::size_t kShown = 80;
    return value.is_structured() ? std::string(value.type_name())
                                 : value.dump(-1, ' ', true).substr(0, kShown);
  }

 private:
  const json& object_;
  std::string origin_;
};

// Since transformers 5 the field is rope_parameters and holds rope_theta; before, rope_scaling was
// beside it.
void read_yarn(const Fields& rope, config::Model& model) {
  const double factor = rope.number("factor");
  rope.require("attention_factor", nullptr);
  rope.require("truncate", true);
  rope.require("partial_rotary_factor", 1.0);
  const double mscale = rope.number("mscale");
  if (mscale != rope.number("mscale_all_dim") || !(mscale > 0)) {
    rope.fail("mscale", "and mscale_all_dim are not equal and above 0; Fathom has nothing else");
  }
  if (factor == 1.0) {
    return;
  }
  config::Yarn& yarn = *model.mutable_yarn();
  yarn.set_factor(factor);
  yarn.set_original_max_position(rope.integer("original_max_position_embeddings"));
  yarn.set_beta_fast(rope.number_or("beta_fast", 32.0));
  yarn.set_beta_slow(rope.number_or("beta_slow", 1.0));
  yarn.set_mscale(mscale);
}

void read_rope(const Fields& fields, const std::string& origin, config::Model& model) {
  fields.require("rope_interleave", true);
  const bool is_new = fields.find("rope_parameters") != nullptr;
  const char* const name = is_new ? "rope_parameters" : "rope_scaling";
  if (!is_new) {
    model.set_rope_theta(fields.number("rope_theta"));
  }
  if (fields.find(name) == nullptr) {
    return;
  }
  const Fields rope(fields.at(name), concat(origin, ": ", name));
  if (is_new) {
    model.set_rope_theta(rope.number("rope_theta"));
  }
  const std::string kind = rope.text(rope.find("rope_type") != nullptr ? "rope_type" : "type");
  if (kind == "yarn") {
    read_yarn(rope, model);
  } else if (kind != "default") {
    rope.fail("rope_type", "is ", Fields::shown(kind), "; Fathom has yarn and default");
  }
}

void read_groups(const Fields& fields, MixtureOfExperts& moe) {
  moe.set_num_groups(fields.integer("n_group"));
  moe.set_num_kept_groups(fields.integer("topk_group"));
  if (moe.num_kept_groups() > moe.num_groups()) {
    fields.fail("topk_group", "is ", moe.num_kept_groups(), ", above n_group (", moe.num_groups(),
                ")");
  }
}

void read_router_of_v2(const Fields& fields, MixtureOfExperts& moe) {
  moe.set_score_function(MixtureOfExperts::SOFTMAX);
  moe.set_group_score(MixtureOfExperts::MAX);
  fields.require("scoring_func", "softmax");
  // The released code leaves the factor out where it normalizes, transformers does not normalize.
  fields.require("norm_topk_prob", false);
  const std::string method = fields.text("topk_method");
  if (method == "group_limited_greedy") {
    read_groups(fields, moe);
  } else if (method == "greedy") {
    moe.set_num_groups(1);
    moe.set_num_kept_groups(1);
  } else {
    fields.fail("topk_method", "is ", Fields::shown(method),
                "; DeepSeek-V2 has greedy and group_limited_greedy");
  }
  moe.set_normalize_gates(false);
}

void read_router_of_v3(const Fields& fields, MixtureOfExperts& moe) {
  moe.set_score_function(MixtureOfExperts::SIGMOID);
  moe.set_group_score(MixtureOfExperts::SUM_OF_TOP2);
  fields.require("scoring_func", "sigmoid");
  fields.require("topk_method", "noaux_tc");
  read_groups(fields, moe);
  moe.set_normalize_gates(fields.boolean("norm_topk_prob"));
}

void read_experts(const Fields& fields, bool is_v3, config::Model& model) {
  fields.require("moe_layer_freq", 1);
  model.set_num_dense_layers(
      std::min(fields.integer("first_k_dense_replace", 0), model.num_layers()));
  if (model.num_dense_layers() == model.num_layers() && model.mtp_depth() == 0) {
    return;
  }
  MixtureOfExperts& moe = *model.mutable_moe();
  moe.set_num_experts(fields.integer("n_routed_experts"));
  if (fields.find("n_shared_experts") != nullptr || !fields.names("n_shared_experts")) {
    moe.set_num_shared_experts(fields.integer("n_shared_experts"));
  }
  moe.set_top_k(fields.integer("num_experts_per_tok"));
  moe.set_intermediate_size(fields.integer("moe_intermediate_size"));
  moe.set_gate_scale(fields.number("routed_scaling_factor"));
  if (is_v3) {
    read_router_of_v3(fields, moe);
  } else {
    read_router_of_v2(fields, moe);
  }
}

void read_attention(const Fields& fields, config::Model& model) {
  fields.require("attention_bias", false);
  model.set_num_attention_heads(fields.integer("num_attention_heads"));
  fields.require("num_key_value_heads", model.num_attention_heads());
  if (!fields.names("q_lora_rank")) {
    fields.fail("q_lora_rank", "is missing; null says that there is none");
  }
  model.set_q_lora_rank(fields.find("q_lora_rank") == nullptr ? 0 : fields.integer("q_lora_rank"));
  model.set_kv_lora_rank(fields.integer("kv_lora_rank"));
  model.set_qk_nope_head_dim(fields.integer("qk_nope_head_dim"));
  model.set_qk_rope_head_dim(fields.integer("qk_rope_head_dim"));
  model.set_v_head_dim(fields.integer("v_head_dim"));
}

// --- the other way

void require_sayable(bool holds, std::string_view field, const std::string& why) {
  if (!holds) {
    throw ConfigError(concat("model.", field, " ", why));
  }
}

void check_experts(const MixtureOfExperts& moe, bool is_v3) {
  const char* const name = is_v3 ? "DeepSeek-V3" : "DeepSeek-V2";
  require_sayable(!moe.forced_balance(), "moe.forced_balance",
                  "is true: no published model is routed so");
  require_sayable(moe.num_shared_experts() > 0, "moe.num_shared_experts",
                  "is 0: transformers has no layer of experts without shared ones");
  require_sayable(moe.num_experts() > 1, "moe.num_experts",
                  concat("is ", moe.num_experts(), ": the routers of transformers need two"));
  require_sayable(
      moe.num_groups() == 1 || (moe.group_score() == MixtureOfExperts::SUM_OF_TOP2) == is_v3,
      "moe.group_score",
      concat("is ", MixtureOfExperts::GroupScore_Name(moe.group_score()), ": with the scores of ",
             name, " goes ", is_v3 ? "SUM_OF_TOP2" : "MAX"));
  require_sayable(is_v3 || !moe.normalize_gates(), "moe.normalize_gates",
                  "is true: transformers' DeepSeek-V2 does not normalize");
}

void check_sayable(const config::Model& model, bool is_v3) {
  require_sayable(model.rms_norm_epsilon() == kNormEpsilon, "rms_norm_epsilon",
                  concat("is ", model.rms_norm_epsilon(),
                         ": the norms of the latents have 1e-6 in published models, whatever "
                         "config.json says"));
  require_sayable(is_v3 || model.mtp_depth() == 0, "mtp_depth",
                  concat("is ", model.mtp_depth(), ": DeepSeek-V2 has no such modules"));
  require_sayable(
      model.mtp_depth() == 0 || model.has_moe(), "mtp_depth",
      concat("is ", model.mtp_depth(), " without model.moe: those modules have experts"));
  require_sayable(model.yarn().factor() == 1.0 || model.yarn().mscale() > 0, "yarn.mscale",
                  "is 0: transformers would scale cosines and sines then");
  require_sayable(
      is_v3 || model.hidden_size() % model.num_attention_heads() == 0, "hidden_size",
      concat("(", model.hidden_size(), ") is no multiple of model.num_attention_heads (",
             model.num_attention_heads(), "): transformers' DeepSeek-V2 refuses that"));
  if (model.has_moe()) {
    check_experts(model.moe(), is_v3);
  }
}

nlohmann::ordered_json or_null(std::int64_t value, bool is_given) {
  return is_given ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

void write_attention(const config::Model& model, nlohmann::ordered_json& out) {
  out["attention_bias"] = false;
  out["attention_dropout"] = 0.0;
  out["num_attention_heads"] = model.num_attention_heads();
  out["num_key_value_heads"] = model.num_attention_heads();
  out["q_lora_rank"] = or_null(model.q_lora_rank(), model.q_lora_rank() > 0);
  out["kv_lora_rank"] = model.kv_lora_rank();
  out["qk_nope_head_dim"] = model.qk_nope_head_dim();
  out["qk_rope_head_dim"] = model.qk_rope_head_dim();
  out["v_head_dim"] = model.v_head_dim();
  out["rope_theta"] = model.rope_theta();
  if (model.yarn().factor() == 1.0) {
    out["rope_scaling"] = nullptr;
    return;
  }
  out["rope_scaling"] = {{"type", "yarn"},
                         {"factor", model.yarn().factor()},
                         {"original_max_position_embeddings", model.yarn().original_max_position()},
                         {"beta_fast", model.yarn().beta_fast()},
                         {"beta_slow", model.yarn().beta_slow()},
                         {"mscale", model.yarn().mscale()},
                         {"mscale_all_dim", model.yarn().mscale()}};
}

// A model without experts is written with some that no layer has.
MixtureOfExperts experts_of(const config::Model& model) {
  if (model.has_moe()) {
    return model.moe();
  }
  MixtureOfExperts none;
  none.set_num_experts(2);
  none.set_num_shared_experts(1);
  none.set_top_k(1);
  none.set_intermediate_size(model.intermediate_size());
  return none;
}

void write_experts(const config::Model& model, bool is_v3, nlohmann::ordered_json& out) {
  const MixtureOfExperts moe = experts_of(model);
  out["first_k_dense_replace"] = model.has_moe() ? model.num_dense_layers() : model.num_layers();
  out["moe_layer_freq"] = 1;
  out["moe_intermediate_size"] = moe.intermediate_size();
  out["n_routed_experts"] = moe.num_experts();
  out["n_shared_experts"] = moe.num_shared_experts();
  out["num_experts_per_tok"] = moe.top_k();
  out["n_group"] = moe.num_groups();
  out["topk_group"] = moe.num_kept_groups();
  out["norm_topk_prob"] = moe.normalize_gates();
  out["routed_scaling_factor"] = moe.gate_scale();
  out["scoring_func"] = is_v3 ? "sigmoid" : "softmax";
  out["topk_method"] = is_v3                   ? "noaux_tc"
                       : moe.num_groups() == 1 ? "greedy"
                                               : "group_limited_greedy";
}

void write_quantization(nlohmann::ordered_json& out) {
  out["quantization_config"] = {{"activation_scheme", "dynamic"},
                                {"fmt", "e4m3"},
                                {"quant_method", "fp8"},
                                {"weight_block_size", {kScaleBlock, kScaleBlock}}};
}

}  // namespace

config::Model read_model_config(const json& json, const std::string& origin) {
  const Fields fields(json, origin);
  const std::string type = fields.text("model_type");
  if (type != kV2 && type != kV3) {
    fields.fail("model_type", "is ", Fields::shown(type), "; Fathom has ", kV2, " and ", kV3);
  }
  const bool is_v3 = type == kV3;
  fields.require("hidden_act", "silu");
  fields.require("mlp_bias", false);
  fields.require("tie_word_embeddings", false);
  if (fields.number("rms_norm_eps") != kNormEpsilon) {
    fields.fail("rms_norm_eps", "is ", fields.number("rms_norm_eps"),
                "; the norms of the latents have 1e-6 in any case, and Fathom has one for all");
  }
  config::Model model;
  model.set_vocab_size(fields.integer("vocab_size"));
  model.set_hidden_size(fields.integer("hidden_size"));
  model.set_num_layers(fields.integer("num_hidden_layers"));
  model.set_max_position(fields.integer("max_position_embeddings"));
  if (const std::int64_t size = fields.integer("intermediate_size", 0); size > 0) {
    model.set_intermediate_size(size);
  }
  if (is_v3 && fields.find("num_nextn_predict_layers") != nullptr) {
    if (const std::int64_t depth = fields.integer("num_nextn_predict_layers", 0); depth > 0) {
      model.set_mtp_depth(depth);
    }
  }
  read_attention(fields, model);
  read_rope(fields, origin, model);
  read_experts(fields, is_v3, model);
  return model;
}

bool has_block_scales(const json& json, const std::string& origin) {
  const Fields fields(json, origin);
  if (fields.find("quantization_config") == nullptr) {
    return false;
  }
  const Fields quantization(fields.at("quantization_config"),
                            concat(origin, ": quantization_config"));
  quantization.at("quant_method");
  quantization.require("quant_method", "fp8");
  quantization.require("fmt", "e4m3");
  quantization.at("weight_block_size");
  quantization.require("weight_block_size", json::array({kScaleBlock, kScaleBlock}));
  return true;
}

nlohmann::ordered_json write_model_config(const config::Model& model, WeightDType dtype,
                                          const SpecialIds& ids) {
  const bool is_v3 = !model.has_moe() || model.moe().score_function() == MixtureOfExperts::SIGMOID;
  check_sayable(model, is_v3);
  nlohmann::ordered_json out;
  out["architectures"] = {is_v3 ? "DeepseekV3ForCausalLM" : "DeepseekV2ForCausalLM"};
  out["model_type"] = is_v3 ? kV3 : kV2;
  out["vocab_size"] = model.vocab_size();
  out["hidden_size"] = model.hidden_size();
  out["num_hidden_layers"] = model.num_layers();
  if (is_v3) {
    out["num_nextn_predict_layers"] = model.mtp_depth();
  }
  out["intermediate_size"] = model.intermediate_size();
  out["hidden_act"] = "silu";
  out["rms_norm_eps"] = model.rms_norm_epsilon();
  out["initializer_range"] = 0.02;  // as published, whatever the training used
  out["max_position_embeddings"] = model.max_position();
  write_attention(model, out);
  write_experts(model, is_v3, out);
  if (dtype == WeightDType::kFloat8E4M3) {
    write_quantization(out);
  }
  out["bos_token_id"] = or_null(ids.bos, ids.bos >= 0);
  out["eos_token_id"] = or_null(ids.eos, ids.eos >= 0);
  out["tie_word_embeddings"] = false;
  out["torch_dtype"] = dtype == WeightDType::kFloat32 ? "float32" : "bfloat16";
  out["use_cache"] = true;
  return out;
}

}  // namespace fathom::trainer
