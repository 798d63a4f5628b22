#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/attention_tiles.cuh"

// What training and generation from pages give to attend_tiles alike: the tensors of
// kernels/attention.h, as device memory.
namespace fathom::kernels::cuda {

// Keys and values of each token in kv, and its rotated part in latent.
template <class T>
TokenRows<T> token_rows(const AttentionShape& shape, const Tensor& kv, const Tensor& latent) {
  return {.keys = device_data<T>(kv),
          .values = device_data<T>(kv) + shape.nope_size,
          .rope = device_data<T>(latent) + shape.rope_column,
          .row_stride = static_cast<int>(kv.size(1)),
          .head_stride = shape.nope_size + shape.value_size,
          .rope_stride = static_cast<int>(latent.size(1))};
}

// Tiles of tokens of one head each, without splits. q [num_rows, num_heads * (nope + rope)].
template <class T, class Keys>
AttentionTiles<T, Keys> head_tiles(const AttentionShape& shape, const Tensor& q, const Keys& keys,
                                   const Spans& spans) {
  const int row = static_cast<int>(q.size(1));
  const int head = shape.nope_size + shape.rope_size;
  return {.queries = device_data<T>(q),
          .rope = device_data<T>(q) + shape.nope_size,
          .query_row = row,
          .query_head = head,
          .rope_row = row,
          .rope_head = head,
          .keys = keys,
          .sizes = {shape.nope_size, shape.rope_size, shape.value_size},
          .spans = spans.spans,
          .num_rows = spans.num_rows,
          .num_heads = shape.num_heads,
          .heads_of_tile = 1,
          .value_size = shape.value_size,
          .num_splits = 1,
          .scale = shape.scale};
}

}  // namespace fathom::kernels::cuda
