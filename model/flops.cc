#include "model/flops.h"

namespace fathom::model {
namespace {

double attention_weights(const ModelOptions& options) {
  const double hidden = options.hidden_size;
  const double heads = options.num_attention_heads;
  const double queries = options.q_lora_rank > 0
                             ? options.q_lora_rank * (hidden + heads * options.qk_head_dim())
                             : hidden * heads * options.qk_head_dim();
  return queries + hidden * (options.kv_lora_rank + options.qk_rope_head_dim) +
         options.kv_lora_rank * heads * (options.qk_nope_head_dim + options.v_head_dim) +
         heads * options.v_head_dim * hidden;
}

double feed_forward_weights(const ModelOptions& options, bool is_dense) {
  const double hidden = options.hidden_size;
  if (is_dense) {
    return 3.0 * hidden * options.intermediate_size;
  }
  const MoeOptions& moe = options.moe;
  return hidden * moe.num_experts +
         3.0 * hidden * moe.intermediate_size * (moe.top_k + moe.num_shared_experts);
}

// Scores and values of one layer, forward and backward, which is twice the forward.
double attention_flops(const ModelOptions& options, std::int64_t sequence_length) {
  const double query = options.qk_head_dim();
  const double value = options.v_head_dim;
  const double half_sequence = 0.5 * static_cast<double>(sequence_length);
  return 3.0 * 2.0 * options.num_attention_heads * half_sequence * (query + value);
}

double layer_flops(const ModelOptions& options, bool is_dense, std::int64_t sequence_length) {
  return 6.0 * (attention_weights(options) + feed_forward_weights(options, is_dense)) +
         attention_flops(options, sequence_length);
}

}  // namespace

double layer_flops_per_token(const ModelOptions& options, int layer, std::int64_t sequence_length) {
  return layer_flops(options, options.is_dense_layer(layer), sequence_length);
}

// A module is one more layer of the last layers' kind, the matrix that joins its two inputs, and
// the head once more.
double end_flops_per_token(const ModelOptions& options, std::int64_t sequence_length) {
  const double hidden = options.hidden_size;
  const double head = 6.0 * static_cast<double>(options.vocab_size) * hidden;
  const double module = layer_flops(options, options.moe.num_experts == 0, sequence_length) +
                        6.0 * 2.0 * hidden * hidden + head;
  return head + options.mtp_depth * module;
}

double flops_per_token(const ModelOptions& options, std::int64_t sequence_length) {
  double flops = end_flops_per_token(options, sequence_length);
  for (int layer = 0; layer < options.num_layers; ++layer) {
    flops += layer_flops_per_token(options, layer, sequence_length);
  }
  return flops;
}

}  // namespace fathom::model
