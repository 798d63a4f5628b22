#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Causal multi-head latent attention over expanded keys (DeepSeek-V2, arXiv:2405.04434, eq. 9-19),
// after rotation:
//   s_ij = scale * ([q_nope|q_rope]_i . [k_nope|k_rope]_j),  j <= i and in the same segment
//   o_i  = sum_j softmax(s_i)_j v_j,   lse_i = log sum_j exp(s_ij)
struct AttentionShape {
  int num_heads = 0;
  int nope_size = 0;    // per head; query and key part without position
  int rope_size = 0;    // per head in q; one vector shared by all heads in k
  int value_size = 0;   // per head
  int rope_column = 0;  // first column of k_rope in a row of `latent`
  float scale = 1.0F;
  int num_chunks = 1;  // equal parts of the heads, for sums over heads; a power of two
  // On CUDA: the backward gives the same bits each time. Without, cuDNN is faster and needs less
  // scratch, and adds in the order in which its blocks end.
  bool is_deterministic = true;
};

//   q         [num_tokens, num_heads * (nope + rope)]    per head [nope | rope]
//   kv        [num_tokens, num_heads * (nope + value)]   per head [k_nope | v]
//   latent    [num_tokens, >= rope_column + rope]        the rotated k_rope from rope_column on
//   segments  [num_segments + 1]  int32: first token of each isolated segment, ascending, last =
//             num_tokens
//   out       [num_tokens, num_heads * value]
//   lse       [num_tokens, num_heads]
// q, kv, latent and out of the activation dtype, float32 or on other devices than the CPU bfloat16;
// lse float32. Keys are walked in blocks of 64 from the start of the segment
// (docs/numerics.md, rule 4), so a row depends only on the tokens of its segment up to itself; NaN
// and Inf in others do not reach it, nor do those of queries that do not see a key reach the key's
// gradient. Scratch for the keys and values of one head and segment a thread. On CUDA a row has
// these blocks, and the bits of kernels/paged_attention.h, in SumOrder::kFixed and wherever cuDNN
// is not asked; what a query does not see is multiplied by 0 in its block, so that NaN and Inf of
// later tokens of the segment may reach it. cuDNN's order is its own. Throws InternalError on a
// mismatch.
struct AttentionInputs {
  const Tensor& q;
  const Tensor& kv;
  const Tensor& latent;
  const Tensor& segments;
  // Tokens of the longest segment where the host knows them, else 0. The CUDA backend needs them to
  // see that all segments have one length, and for how much scratch the longest takes.
  std::int64_t max_segment_tokens = 0;
};
void attention_forward(const AttentionShape& shape, const AttentionInputs& inputs, Tensor& out,
                       Tensor& lse, Stream& stream);

// Everything that the backward reads.
struct AttentionSaved {
  AttentionInputs inputs;
  const Tensor& out;
  const Tensor& lse;
};

// Gradients with respect to the rotated q, to kv, and to k_rope, which is written into the columns
// from rope_column of dlatent; its other columns are left alone. The latter is summed over the
// heads of each chunk, ascending, then in a binary tree over the chunks (docs/numerics.md, rule 4).
// All are overwritten. dq like q, dkv like kv, dlatent like latent or float32. dQ is summed over
// key blocks ascending, dK and dV over query blocks ascending. On CUDA the heads' gradients of
// k_rope are rounded to q's dtype before they are summed, in float32; the sum is rounded once.
void attention_backward(const AttentionShape& shape, const AttentionSaved& saved,
                        const Tensor& dout, Tensor& dq, Tensor& dkv, Tensor& dlatent,
                        Stream& stream);

// Throws InternalError unless the sizes make sense.
void check_shape(const AttentionShape& shape);

// For backends; arguments as above.
extern constinit KernelSlot<void(const AttentionShape&, const AttentionInputs&, Tensor&, Tensor&,
                                 Stream&)>
    attention_forward_slot;
extern constinit KernelSlot<void(const AttentionShape&, const AttentionSaved&, const Tensor&,
                                 Tensor&, Tensor&, Tensor&, Stream&)>
    attention_backward_slot;

}  // namespace fathom::kernels
