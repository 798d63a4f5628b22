#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/check_tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Attention of new tokens of sequences whose earlier keys and values are kept, a page for each 64
// tokens (PagedAttention, arXiv:2309.06180). A page is a block of keys of attention_forward, kept
// in the form that its products take, so a row has the bits that attention_forward gives it among
// all tokens of its sequence (on CUDA in SumOrder::kFixed), and nothing is arranged anew for each
// token.
inline constexpr std::int64_t kPageTokens = 64;

// Of the pages of one layer, whose inner order is the backend's: [num_pages, numbers of a page].
// They have the dtype of the activations: float32, on other devices than the CPU also bfloat16.
Shape attention_pages_shape(const AttentionShape& shape, std::int64_t num_pages);

// Which sequences have new tokens, and where their keys and values are.
//   spans   [num_sequences, 4]  int32: first row of the new tokens and their number n; number of
//           tokens of the sequence, of which these are the last; first entry of `pages`
//   pages   [entries] int32: the pages of each sequence, as many as its tokens need, in order
//   copies  [num_copies, 2] int32: page to copy before anything is kept, and page to copy to
struct PagedSequences {
  const Tensor& spans;
  const Tensor& pages;
  const Tensor& copies;
};
// Shapes and dtypes. Throws InternalError.
void check_sequences(const TensorCheck& check, const PagedSequences& sequences);

// Copies pages, then keeps the new tokens' keys and values.
//   kv      [num_rows, num_heads * (nope + value)]  as of attention_forward
//   latent  [num_rows, >= rope_column + rope]
//   cache   attention_pages_shape, in-out: other tokens and other pages stay as they are
// Throws InternalError on a mismatch, for spans beyond the rows and for pages beyond the cache.
// On CUDA such spans have no new tokens, and such pages are neither written nor seen.
void keep_in_pages(const AttentionShape& shape, const Tensor& kv, const Tensor& latent,
                   const PagedSequences& sequences, Tensor& cache, Stream& stream);

//   q      [num_rows, num_heads * (nope + rope)]
//   cache  attention_pages_shape, the new tokens kept already
//   out    [num_rows, num_heads * value]  rows outside all spans become 0
// Throws as keep_in_pages.
void paged_attention_forward(const AttentionShape& shape, const Tensor& q,
                             const PagedSequences& sequences, const Tensor& cache, Tensor& out,
                             Stream& stream);

// For backends; arguments as above.
extern constinit KernelSlot<void(const AttentionShape&, const Tensor&, const Tensor&,
                                 const PagedSequences&, Tensor&, Stream&)>
    keep_in_pages_slot;
extern constinit KernelSlot<void(const AttentionShape&, const Tensor&, const PagedSequences&,
                                 const Tensor&, Tensor&, Stream&)>
    paged_attention_forward_slot;

}  // namespace fathom::kernels
