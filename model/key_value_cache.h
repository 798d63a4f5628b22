#pragma once

#include <cstdint>
#include <map>

#include "core/stream.h"
#include "core/tensor.h"
#include "model/options.h"

namespace fathom::model {

// What one layer keeps of the tokens of sequences that grow: expanded keys and values, as the
// training forward makes them, so that a later token's attention has its bits. Where a token's row
// is, is for whoever fills it to say (MicroBatch::cache_rows).
struct KeyValueCache {
  Tensor kv;        // [num_tokens, local heads * (nope + value)]
  Tensor rope_key;  // [num_tokens, rope]: rotated, shared by the heads

  // Of this tensor rank's heads; uninitialized.
  static KeyValueCache allocate(const ModelOptions& options, int num_tensor_ranks,
                                std::int64_t num_tokens, Stream& stream) {
    const std::int64_t heads = options.num_attention_heads / num_tensor_ranks;
    const std::int64_t head_size = options.qk_nope_head_dim + options.v_head_dim;
    return {Tensor::empty(Shape{num_tokens, heads * head_size}, DType::kFloat32, stream),
            Tensor::empty(Shape{num_tokens, options.qk_rope_head_dim}, DType::kFloat32, stream)};
  }
};

// Of the layers that a rank holds, by their number.
using GenerationCache = std::map<int, KeyValueCache>;

}  // namespace fathom::model
