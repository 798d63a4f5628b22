#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/dispatch.h"
#include "kernels/paged_attention.h"

namespace fathom::kernels {

// Attention of new tokens of kept sequences, as kernels/paged_attention.h, that keeps the latents
// instead of the keys and values which follow from them (DeepSeek-V2, arXiv:2405.04434, section
// 2.1.2 and appendix C). With head h's rows W_UK [nope, rank] and W_UV [value, rank] of W_kvb,
// k_nope = W_UK c and v = W_UV c, so
//   s_ij = scale * ((W_UK^T q_nope)_i . c_j + q_rope_i . k_rope_j),   o_i = W_UV sum_j p_ij c_j
// In exact arithmetic that is attention over expanded keys; in float32 it differs by rounding.
// The rank is shape.rope_column: a row of `latent` is [c | k_rope].

// Of the pages of one layer, whose inner order is the backend's: [num_pages, numbers of a page].
// All heads share them. They have the dtype of the activations and of W_kvb: float32, on other
// devices than the CPU also bfloat16.
Shape latent_pages_shape(const AttentionShape& shape, std::int64_t num_pages);

// W_kvb as packed_head_matmul_forward (kernels/packed_matmul.h) wants it; the order of the elements
// is the device's own.
//   kv_b   [num_heads * (nope + value), rank]     per head [W_UK; W_UV]
//   key    [num_heads, ceil(rank / 16), nope, 16]   out; packed_shape of all W_UK^T
//   value  [num_heads, ceil(value / 16), rank, 16]  out; packed_shape of all W_UV
void pack_absorbed(const AttentionShape& shape, const Tensor& kv_b, Tensor& key, Tensor& value,
                   Stream& stream);

// Copies pages, then keeps the new tokens' latents.
//   latent  [num_rows, >= rank + rope]
//   cache   latent_pages_shape, in-out: other tokens and other pages stay as they are
// Throws InternalError as keep_in_pages.
void keep_latents_in_pages(const AttentionShape& shape, const Tensor& latent,
                           const PagedSequences& sequences, Tensor& cache, Stream& stream);

// out_i = sum_j p_ij c_j for each head.
//   q         [num_rows, num_heads * (nope + rope)]  rotated; q_rope is read
//   absorbed  [num_rows, num_heads * rank]           W_UK^T q_nope of each head
//   cache     latent_pages_shape, the new tokens kept already
//   out       [num_rows, num_heads * rank]           rows outside all spans become 0
// Throws as above.
struct AbsorbedQueries {
  const Tensor& q;
  const Tensor& absorbed;
};
void latent_attention_forward(const AttentionShape& shape, const AbsorbedQueries& queries,
                              const PagedSequences& sequences, const Tensor& cache, Tensor& out,
                              Stream& stream);

// For backends; arguments as above.
extern constinit KernelSlot<void(const AttentionShape&, const Tensor&, Tensor&, Tensor&, Stream&)>
    pack_absorbed_slot;
extern constinit KernelSlot<void(const AttentionShape&, const Tensor&, const PagedSequences&,
                                 Tensor&, Stream&)>
    keep_latents_in_pages_slot;
extern constinit KernelSlot<void(const AttentionShape&, const AbsorbedQueries&,
                                 const PagedSequences&, const Tensor&, Tensor&, Stream&)>
    latent_attention_forward_slot;

}  // namespace fathom::kernels
