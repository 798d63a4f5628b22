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
  std::int64_t longest_segment() const {  // or more
    return max_segment_tokens > 0 ? max_segment_tokens : num_tokens();
  }
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

}  // namespace fathom::kernels::cuda
