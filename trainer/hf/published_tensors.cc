#include "trainer/hf/published_tensors.h"

#include <cstdint>

#include "core/error.h"
#include "trainer/hf/safetensors.h"

namespace fathom::trainer {
namespace {

const char* const kEmbedding = "model.embed_tokens.weight";
const char* const kHead = "lm_head.weight";

class Lister {
 public:
  explicit Lister(const model::ModelOptions& model) : model_(model), hidden_(model.hidden_size) {}

  std::vector<PublishedTensor> list() {
    plain(kEmbedding, Shape{model_.vocab_size, hidden_});
    for (int layer = 0; layer < model_.num_layers + model_.mtp_depth; ++layer) {
      add_layer(concat("model.layers.", layer, "."), model_.is_dense_layer(layer));
      if (layer >= model_.num_layers) {
        add_prediction(concat("model.layers.", layer, "."));
      }
    }
    plain("model.norm.weight", Shape{hidden_});
    plain(kHead, Shape{model_.vocab_size, hidden_});
    return std::move(tensors_);
  }

 private:
  void plain(const std::string& name, const Shape& shape) {
    tensors_.push_back({.name = name, .shape = shape, .copy_of = ""});
  }
  void matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
    tensors_.push_back(
        {.name = name, .shape = Shape{rows, columns}, .is_block_scaled = true, .copy_of = ""});
  }
  void copy(const std::string& name, const char* of) {
    tensors_.push_back({.name = name, .shape = Shape{model_.vocab_size, hidden_}, .copy_of = of});
  }

  void add_layer(const std::string& prefix, bool is_dense) {
    plain(prefix + "input_layernorm.weight", Shape{hidden_});
    plain(prefix + "post_attention_layernorm.weight", Shape{hidden_});
    add_attention(prefix + "self_attn.");
    if (is_dense) {
      add_feed_forward(prefix + "mlp.", model_.intermediate_size);
    } else {
      add_experts(prefix + "mlp.");
    }
  }

  void add_attention(const std::string& prefix) {
    const std::int64_t heads = model_.num_attention_heads;
    const std::int64_t query = heads * model_.qk_head_dim();
    if (model_.q_lora_rank > 0) {
      matrix(prefix + "q_a_proj.weight", model_.q_lora_rank, hidden_);
      plain(prefix + "q_a_layernorm.weight", Shape{model_.q_lora_rank});
      matrix(prefix + "q_b_proj.weight", query, model_.q_lora_rank);
    } else {
      matrix(prefix + "q_proj.weight", query, hidden_);
    }
    matrix(prefix + "kv_a_proj_with_mqa.weight",
           std::int64_t{model_.kv_lora_rank} + model_.qk_rope_head_dim, hidden_);
    plain(prefix + "kv_a_layernorm.weight", Shape{model_.kv_lora_rank});
    matrix(prefix + "kv_b_proj.weight",
           heads * (std::int64_t{model_.qk_nope_head_dim} + model_.v_head_dim),
           model_.kv_lora_rank);
    matrix(prefix + "o_proj.weight", hidden_, heads * model_.v_head_dim);
  }

  void add_feed_forward(const std::string& prefix, std::int64_t inner) {
    matrix(prefix + "gate_proj.weight", inner, hidden_);
    matrix(prefix + "up_proj.weight", inner, hidden_);
    matrix(prefix + "down_proj.weight", hidden_, inner);
  }

  void add_experts(const std::string& prefix) {
    const model::MoeOptions& moe = model_.moe;
    plain(prefix + "gate.weight", Shape{moe.num_experts, hidden_});
    if (moe.has_selection_bias) {
      tensors_.push_back({.name = prefix + "gate.e_score_correction_bias",
                          .shape = Shape{moe.num_experts},
                          .is_float32 = true,
                          .copy_of = ""});
    }
    for (int expert = 0; expert < moe.num_experts; ++expert) {
      add_feed_forward(concat(prefix, "experts.", expert, "."), moe.intermediate_size);
    }
    if (moe.num_shared_experts > 0) {
      add_feed_forward(prefix + "shared_experts.",
                       std::int64_t{moe.num_shared_experts} * moe.intermediate_size);
    }
  }

  // What a module of multi-token prediction has beside its layer.
  void add_prediction(const std::string& prefix) {
    copy(prefix + "embed_tokens.weight", kEmbedding);
    plain(prefix + "enorm.weight", Shape{hidden_});
    plain(prefix + "hnorm.weight", Shape{hidden_});
    plain(prefix + "eh_proj.weight", Shape{hidden_, 2 * hidden_});
    plain(prefix + "shared_head.norm.weight", Shape{hidden_});
    copy(prefix + "shared_head.head.weight", kHead);
  }

  const model::ModelOptions& model_;
  const std::int64_t hidden_;
  std::vector<PublishedTensor> tensors_;
};

}  // namespace

std::vector<PublishedTensor> published_tensors(const model::ModelOptions& model) {
  constexpr std::int64_t kPerLayer = 32;  // beside the routed experts; more than there are
  const std::int64_t most = (std::int64_t{model.num_layers} + model.mtp_depth) *
                            (kPerLayer + std::int64_t{3} * model.moe.num_experts);
  if (most > static_cast<std::int64_t>(kMaxSafetensorsTensors)) {
    throw ConfigError(concat("a model of ", model.num_layers, " layers and ", model.moe.num_experts,
                             " experts has more than the ", kMaxSafetensorsTensors,
                             " tensors that a checkpoint may have"));
  }
  return Lister(model).list();
}

std::string scale_name(const std::string& tensor) { return tensor + "_scale_inv"; }

}  // namespace fathom::trainer
