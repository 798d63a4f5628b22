#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/stream.h"
#include "kernels/rope.h"
#include "kernels/router.h"
#include "parallel/comm/communicator.h"
#include "parallel/parameter_buffer.h"

namespace fathom::model {

struct MoeOptions {
  int num_experts = 0;  // routed; 0: every layer is dense
  int num_shared_experts = 0;
  int top_k = 0;
  int intermediate_size = 0;  // of one expert
  kernels::ScoreFunction score = kernels::ScoreFunction::kSigmoid;
  kernels::GroupScore group_score = kernels::GroupScore::kSumOfTop2;
  int num_groups = 1;
  int num_kept_groups = 1;
  bool normalize_gates = true;
  float gate_scale = 1.0F;
  bool forced_balance = false;
  // Balance losses, per layer and sequence, averaged over the sequences of the global batch.
  float sequence_balance_coefficient = 0.0F;       // V3, arXiv:2412.19437, eq. 17-20
  float expert_balance_coefficient = 0.0F;         // V2, arXiv:2405.04434, eq. 23-25
  float device_balance_coefficient = 0.0F;         // V2, eq. 26-28
  float communication_balance_coefficient = 0.0F;  // V2, eq. 29-31
  int num_device_groups = 1;                       // D of the two above
  int max_device_groups_per_token = 1;             // M of the communication loss
  bool has_selection_bias = true;                  // V3's bias for balancing without a loss
};

// How sums are taken (docs/numerics.md): the mode of a run, as numbers.
struct NumericsOptions {
  // Equal parts, over all tensor ranks, of dimensions that tensor parallelism cuts and sums run
  // over; 0: one a rank. Rule 4.
  int tensor_chunks = 0;
  // Of activations and weights: float32 or, on other devices than the CPU, bfloat16. Scores and
  // gates of the router, what the softmaxes keep, losses and gradients are float32.
  DType activation_dtype = DType::kFloat32;
  parallel::GradientFormat gradients;
  // Else attention's backward on CUDA adds in any order.
  bool is_deterministic = true;

  int chunks_per_rank(const parallel::Communicator& tensor) const noexcept {
    return tensor_chunks == 0 ? 1 : tensor_chunks / tensor.world_size();
  }
  // Of logits, and of sums to which other tensor ranks' parts are added: where the layout must not
  // show, they are rounded to the activations' dtype once, whole.
  DType sum_dtype() const noexcept {
    return tensor_chunks == 0 ? activation_dtype : DType::kFloat32;
  }
  DType partial_dtype(const parallel::Communicator& tensor) const noexcept {
    return tensor.world_size() == 1 ? activation_dtype : sum_dtype();
  }
  // What the run's streams keep to.
  SumOrder sum_order() const noexcept {
    return tensor_chunks == 0 ? SumOrder::kFastest : SumOrder::kFixed;
  }
};

// A model: everything that its published tensors depend on, and how it sums.
struct ModelOptions {
  std::int64_t vocab_size = 0;
  int hidden_size = 0;
  int num_layers = 0;
  int num_dense_layers = 0;   // the first ones; the rest are mixtures of experts
  int intermediate_size = 0;  // of the dense layers
  int num_attention_heads = 0;
  int q_lora_rank = 0;  // 0: queries straight from the hidden state
  int kv_lora_rank = 0;
  int qk_nope_head_dim = 0;
  int qk_rope_head_dim = 0;
  int v_head_dim = 0;
  double rope_theta = 10000.0;
  std::int64_t max_position = 4096;
  kernels::YarnOptions yarn;
  // Multiplies the softmax scale by (0.1 yarn_mscale ln(factor) + 1)^2 while yarn.factor > 1.
  double yarn_mscale = 1.0;
  float rms_norm_epsilon = 1e-6F;
  float initializer_range = 0.006F;
  int mtp_depth = 0;
  // Tokens whose logits a rank holds at a time: in bfloat16 half a GB of V3's vocabulary. Each
  // chunk adds to all of the weight's gradient; with 2,048 tokens a product does 500 operations for
  // each byte of that, several times what a processor needs to be busy.
  std::int64_t head_chunk_tokens = 2048;
  MoeOptions moe;
  NumericsOptions numerics;

  int qk_head_dim() const noexcept { return qk_nope_head_dim + qk_rope_head_dim; }
  bool is_dense_layer(int layer) const noexcept {
    return moe.num_experts == 0 || layer < num_dense_layers;
  }
  float softmax_scale() const noexcept;
};

// What the backward computes again instead of keeping it.
struct RecomputeOptions {
  bool norms = false;               // outputs of the two norms of a layer
  bool swiglu = false;              // outputs of SwiGLU
  bool mla_up_projections = false;  // q, k and v from their latents
  bool layers = false;              // everything but a layer's input and its tokens' experts
  bool experts = false;             // all that routed experts compute, and the rows brought to them

  bool keeps_experts() const noexcept { return !experts && !layers; }
};

}  // namespace fathom::model
