#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/attention.h"

namespace fathom::kernels::cuda {

// Attention whose keys each head has whole: kernels/attention.h with keys_jh = [k_nope_jh |
// k_rope_j], which is what libraries compute.
struct ExpandedAttention {
  const AttentionShape& shape;
  const Tensor& q;     // [num_tokens, num_heads * (nope + rope)]
  const Tensor& keys;  // like q
  const Tensor& kv;    // [num_tokens, num_heads * (nope + value)]: of each head [ignored | v]
  const Tensor& segments;
  std::int64_t max_segment_tokens;  // 0: not known

  int key_size() const { return shape.nope_size + shape.rope_size; }
  std::int64_t num_tokens() const { return q.size(0); }
  std::int64_t num_segments() const { return segments.size(0) - 1; }
};
struct ExpandedResult {
  const Tensor& out;
  const Tensor& lse;
};
// dkeys like keys; of dkv the values' columns alone are written.
struct ExpandedGradients {
  Tensor& dq;
  Tensor& dkeys;
  Tensor& dkv;
};

// The largest head sizes that tiled_attention_* take.
inline constexpr int kMaxTiledSize = 256;

// Own kernels for any sizes up to kMaxTiledSize, float32 and bfloat16: the online softmax over
// tiles of keys of FlashAttention-2 (arXiv:2307.08691), its backward in two passes without atomics.
// Products of bfloat16 on the tensor cores, for which the probabilities and their gradients are
// rounded.
void tiled_attention_forward(const ExpandedAttention& attention, Tensor& out, Tensor& lse,
                             Stream& stream);
void tiled_attention_backward(const ExpandedAttention& attention, const ExpandedResult& result,
                              const Tensor& dout, const ExpandedGradients& gradients,
                              Stream& stream);

}  // namespace fathom::kernels::cuda
