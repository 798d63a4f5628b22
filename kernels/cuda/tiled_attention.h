#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/attention.h"
#include "kernels/cuda/expanded_attention.h"

namespace fathom::kernels::cuda {

// Own kernels for float32 and bfloat16, of keys (both parts) and values of up to kMaxTiledSize
// numbers. A row's bits depend on the tokens of its own segment alone, in any SumOrder: tiles are
// counted from the segment's first token.
inline constexpr int kMaxTiledSize = 256;

// By the kernel of attention to pages, so with its bits (kernels/cuda/attention_tiles.cuh).
void tiled_attention_forward(const AttentionShape& shape, const AttentionInputs& inputs,
                             Tensor& out, Tensor& lse, Stream& stream);

// In two passes without atomics, as FlashAttention-2 (arXiv:2307.08691): dK and dV over tiles of
// queries ascending, dQ over tiles of keys ascending. Products of bfloat16 on the tensor cores, for
// which the probabilities and their gradients are rounded.
void tiled_attention_backward(const ExpandedAttention& attention, const ExpandedResult& result,
                              const Tensor& dout, const ExpandedGradients& gradients,
                              Stream& stream);

}  // namespace fathom::kernels::cuda
