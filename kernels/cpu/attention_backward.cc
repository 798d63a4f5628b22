#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/weighted_for.h"

namespace fathom::kernels {
namespace cpu {
namespace {

struct Inputs {
  const float* q;
  const float* kv;
  const float* latent;
  const float* out;
  const float* lse;
  const float* dout;
  float scale;
};

// The gradient of k_rope goes to [num_tokens, rope] of this head.
struct Outputs {
  float* dq;
  float* dkv;
  float* dk_rope;
};

// One head of one segment, on one thread (FlashAttention-2, arXiv:2307.08691, alg. 2, with queries
// outermost):
//   p = exp(s - lse);  ds = scale * p * (dout . v - delta),  delta = dout . out
//   dv_j = sum_i p_ij dout_i;  dk_j = sum_i ds_ij q_i;  dq_i = sum_j ds_ij k_j
// Query blocks ascending, for each the key blocks ascending; the sums of a pair of blocks are
// chains from +0 and are then added.
class BackwardHead {
 public:
  BackwardHead(const AttentionLayout& layout, std::int64_t longest, Stream& stream);

  void run(const Inputs& inputs, const Segment& segment, std::int64_t head, const Outputs& outputs);

 private:
  static std::int64_t scratch_size(const AttentionLayout& layout, std::int64_t num_blocks);
  void pack_keys(const Inputs& inputs);
  void pack_queries(const Inputs& inputs, std::int64_t block);
  void process_pair(float scale, std::int64_t query_block, std::int64_t key_block);
  void add_over_queries(const float* a, const Right& b, std::int64_t query_block,
                        std::int64_t key_block, float* to) const;
  template <int kRows>
  void find_weights(float scale, std::int64_t row, std::int64_t key_block, bool is_diagonal);
  void write_queries(std::int64_t block, float* dq) const;
  void write_keys(const Outputs& outputs) const;

  // The 64 tokens of a block of a whole segment's rows.
  float* key_rows(float* data, std::int64_t block) const {
    return data + block * kBlock * layout_.padded_key;
  }
  float* value_rows(float* data, std::int64_t block) const {
    return data + block * kBlock * layout_.padded_value;
  }

  const AttentionLayout& layout_;
  Scratch scratch_;
  Segment segment_;
  std::int64_t head_ = 0;
  // Of the whole segment, block by block.
  float* keys_;               // [64, padded_key]
  float* keys_transposed_;    // [padded_key, 64]
  float* values_transposed_;  // [padded_value, 64]
  float* dkeys_;              // [64, padded_key]
  float* dvalues_;            // [64, padded_value]
  // Of one block of queries.
  float* queries_;   // [64, padded_key]
  float* dqueries_;  // [64, padded_key]
  float* douts_;     // [64, padded_value]
  float* lse_;       // [64]
  float* delta_;     // [64]
  // Of a pair of blocks.
  float* weights_;  // p [64, 64]
  float* dscores_;  // ds [64, 64]
};

std::int64_t BackwardHead::scratch_size(const AttentionLayout& layout, std::int64_t num_blocks) {
  return kBlock * (num_blocks * (3 * layout.padded_key + 2 * layout.padded_value) +
                   2 * layout.padded_key + layout.padded_value + 2 + 2 * kBlock);
}

BackwardHead::BackwardHead(const AttentionLayout& layout, std::int64_t num_blocks, Stream& stream)
    : layout_(layout), scratch_(scratch_size(layout, num_blocks), stream) {
  keys_ = scratch_.take(num_blocks * kBlock * layout.padded_key);
  keys_transposed_ = scratch_.take(num_blocks * kBlock * layout.padded_key);
  values_transposed_ = scratch_.take(num_blocks * kBlock * layout.padded_value);
  dkeys_ = scratch_.take(num_blocks * kBlock * layout.padded_key);
  dvalues_ = scratch_.take(num_blocks * kBlock * layout.padded_value);
  queries_ = scratch_.take(kBlock * layout.padded_key);
  dqueries_ = scratch_.take(kBlock * layout.padded_key);
  douts_ = scratch_.take(kBlock * layout.padded_value);
  lse_ = scratch_.take(kBlock);
  delta_ = scratch_.take(kBlock);
  weights_ = scratch_.take(kBlock * kBlock);
  dscores_ = scratch_.take(kBlock * kBlock);
}

void BackwardHead::run(const Inputs& inputs, const Segment& segment, std::int64_t head,
                       const Outputs& outputs) {
  segment_ = segment;
  head_ = head;
  pack_keys(inputs);
  const std::int64_t num_rows = segment.num_blocks() * kBlock;
  std::fill_n(dkeys_, num_rows * layout_.padded_key, 0.0F);
  std::fill_n(dvalues_, num_rows * layout_.padded_value, 0.0F);
  for (std::int64_t query_block = 0; query_block < segment.num_blocks(); ++query_block) {
    pack_queries(inputs, query_block);
    for (std::int64_t key_block = 0; key_block <= query_block; ++key_block) {
      process_pair(inputs.scale, query_block, key_block);
    }
    write_queries(query_block, outputs.dq);
  }
  write_keys(outputs);
}

void BackwardHead::pack_keys(const Inputs& inputs) {
  for (std::int64_t block = 0; block < segment_.num_blocks(); ++block) {
    const HeadRows rows(layout_, segment_.first + block * kBlock, head_);
    const int num_rows = segment_.block_rows(block);
    float* const keys = key_rows(keys_, block);
    float* const keys_transposed = key_rows(keys_transposed_, block);
    float* const values_transposed = value_rows(values_transposed_, block);
    // What lies beyond the rows and columns is masked, but not to be read uninitialized.
    std::fill_n(keys, kBlock * layout_.padded_key, 0.0F);
    if (num_rows < kBlock) {
      std::fill_n(keys_transposed, kBlock * layout_.padded_key, 0.0F);
      std::fill_n(values_transposed, kBlock * layout_.padded_value, 0.0F);
    }
    const Rows nope{inputs.kv + rows.nope, layout_.kv_stride};
    const Rows rope{inputs.latent + rows.rope, layout_.latent_stride};
    const Rows value{inputs.kv + rows.value, layout_.kv_stride};
    copy_rows(nope, num_rows, layout_.nope_size, keys, layout_.padded_key);
    copy_rows(rope, num_rows, layout_.rope_size, keys + layout_.nope_size, layout_.padded_key);
    transpose(nope, num_rows, layout_.nope_size, keys_transposed, kBlock);
    transpose(rope, num_rows, layout_.rope_size, keys_transposed + layout_.nope_size * kBlock,
              kBlock);
    transpose(value, num_rows, layout_.value_size, values_transposed, kBlock);
  }
}

void BackwardHead::pack_queries(const Inputs& inputs, std::int64_t block) {
  const HeadRows rows(layout_, segment_.first + block * kBlock, head_);
  const int num_rows = segment_.block_rows(block);
  if (layout_.padded_key > layout_.key_size) {
    std::fill_n(queries_, kBlock * layout_.padded_key, 0.0F);
  }
  if (layout_.padded_value > layout_.value_size) {
    std::fill_n(douts_, kBlock * layout_.padded_value, 0.0F);
  }
  std::fill_n(dqueries_, kBlock * layout_.padded_key, 0.0F);
  copy_rows({inputs.q + rows.q, layout_.q_stride}, num_rows, layout_.key_size, queries_,
            layout_.padded_key);
  copy_rows({inputs.dout + rows.out, layout_.out_stride}, num_rows, layout_.value_size, douts_,
            layout_.padded_value);
  for (int row = 0; row < num_rows; ++row) {
    const float* const out = inputs.out + rows.out + row * layout_.out_stride;
    simd::Floats sum = simd::zero();
    simd::for_each_block(layout_.value_size, [&](std::int64_t column, auto extent) {
      sum = simd::fma(simd::load(douts_ + row * layout_.padded_value + column, extent),
                      simd::load(out + column, extent), sum);
    });
    delta_[row] = simd::sum(sum);
    lse_[row] = inputs.lse[rows.lse + row * layout_.num_heads];
  }
}

// p and ds of kRows queries from `row` on and the keys of a block.
template <int kRows>
void BackwardHead::find_weights(float scale, std::int64_t row, std::int64_t key_block,
                                bool is_diagonal) {
  const float* const keys = key_rows(keys_transposed_, key_block);
  const float* const values = value_rows(values_transposed_, key_block);
  const std::int64_t num_keys = is_diagonal ? row + kRows : kBlock;
  for (std::int64_t key = 0; key < num_keys; key += simd::kLanes) {
    const bool is_masked = is_diagonal && key + simd::kLanes > row + 1;
    const auto scores = multiply_tile<kRows>(
        Left<Layout::kRowMajor>{queries_ + row * layout_.padded_key, layout_.padded_key},
        {keys + key, kBlock}, 0, layout_.key_size);
    for (int r = 0; r < kRows; ++r) {
      simd::Floats weight = simd::exp_or_zero(scores.row[r] * simd::broadcast(scale) -
                                              simd::broadcast(lse_[row + r]));
      if (is_masked) {
        weight = simd::select(simd::first_lanes(row + r + 1 - key), weight, simd::zero());
      }
      simd::store(weight, weights_ + (row + r) * kBlock + key);
    }
    const auto dweights = multiply_tile<kRows>(
        Left<Layout::kRowMajor>{douts_ + row * layout_.padded_value, layout_.padded_value},
        {values + key, kBlock}, 0, layout_.value_size);
    for (int r = 0; r < kRows; ++r) {
      const simd::Floats weight = simd::load(weights_ + (row + r) * kBlock + key);
      const simd::Floats difference = dweights.row[r] - simd::broadcast(delta_[row + r]);
      simd::Floats dscore = weight * difference * simd::broadcast(scale);
      if (is_masked) {
        dscore = simd::select(simd::first_lanes(row + r + 1 - key), dscore, simd::zero());
      }
      simd::store(dscore, dscores_ + (row + r) * kBlock + key);
    }
  }
}

// c(r, :) += multiply(16 columns of b).row[r], for all columns of b and kRows rows.
template <int kRows, class Multiply>
HWY_INLINE void add_product(const Right& b, float* c, const Multiply& multiply) {
  for (std::int64_t column = 0; column < b.stride; column += simd::kLanes) {
    const TileSums<kRows> sums = multiply(Right{b.data + column, b.stride});
    for (int r = 0; r < kRows; ++r) {
      float* const to = c + r * b.stride + column;
      simd::store(simd::load(to) + sums.row[r], to);
    }
  }
}

void BackwardHead::process_pair(float scale, std::int64_t query_block, std::int64_t key_block) {
  const bool is_diagonal = query_block == key_block;
  const int num_keys = segment_.block_rows(key_block);
  const Right keys{key_rows(keys_, key_block), layout_.padded_key};
  for_each_row_tile(0, segment_.block_rows(query_block), [&](auto num_rows, int row) {
    find_weights<num_rows>(scale, row, key_block, is_diagonal);
    const Left<Layout::kRowMajor> dscores{dscores_ + row * kBlock, kBlock};
    add_product<num_rows>(keys, dqueries_ + row * layout_.padded_key, [&](const Right& columns) {
      return is_diagonal ? multiply_tile_to_diagonal<num_rows>(dscores, columns, row)
                         : multiply_tile<num_rows>(dscores, columns, 0, num_keys);
    });
  });
  add_over_queries(weights_, {douts_, layout_.padded_value}, query_block, key_block,
                   value_rows(dvalues_, key_block));
  add_over_queries(dscores_, {queries_, layout_.padded_key}, query_block, key_block,
                   key_rows(dkeys_, key_block));
}

// to(j, :) += sum over the queries i of the block that see key j of a(i, j) b(i, :).
void BackwardHead::add_over_queries(const float* a, const Right& b, std::int64_t query_block,
                                    std::int64_t key_block, float* to) const {
  const bool is_diagonal = query_block == key_block;
  const int num_queries = segment_.block_rows(query_block);
  for_each_row_tile(0, segment_.block_rows(key_block), [&](auto num_rows, int row) {
    const Left<Layout::kTransposed> left{a + row, kBlock};
    add_product<num_rows>(b, to + row * b.stride, [&](const Right& columns) {
      return is_diagonal ? multiply_tile_from_diagonal<num_rows>(left, columns, row, num_queries)
                         : multiply_tile<num_rows>(left, columns, 0, num_queries);
    });
  });
}

void BackwardHead::write_queries(std::int64_t block, float* dq) const {
  const HeadRows rows(layout_, segment_.first + block * kBlock, head_);
  copy_rows({dqueries_, layout_.padded_key}, segment_.block_rows(block), layout_.key_size,
            dq + rows.q, layout_.q_stride);
}

void BackwardHead::write_keys(const Outputs& outputs) const {
  const HeadRows rows(layout_, segment_.first, head_);
  copy_rows({dkeys_, layout_.padded_key}, segment_.size, layout_.nope_size, outputs.dkv + rows.nope,
            layout_.kv_stride);
  copy_rows({dvalues_, layout_.padded_value}, segment_.size, layout_.value_size,
            outputs.dkv + rows.value, layout_.kv_stride);
  copy_rows({dkeys_ + layout_.nope_size, layout_.padded_key}, segment_.size, layout_.rope_size,
            outputs.dk_rope + segment_.first * layout_.rope_size, layout_.rope_size);
}

// Sums over heads: ascending within a chunk of heads, then a binary tree over the chunks.
class HeadSums {
 public:
  HeadSums(const AttentionShape& shape, const AttentionLayout& layout, std::int64_t num_tokens,
           Stream& stream)
      : layout_(layout),
        num_tokens_(num_tokens),
        num_chunks_(shape.num_chunks),
        heads_per_chunk_(shape.num_heads / shape.num_chunks),
        sums_(Tensor::empty({num_chunks_, num_tokens, layout.rope_size}, DType::kFloat32, stream)) {
  }

  // Adds dk_rope [num_heads, num_tokens, rope] of the heads from `first_head` on.
  void add(const Tensor& dk_rope, std::int64_t first_head, std::int64_t num_heads, Stream& stream) {
    const std::int64_t head_stride = num_tokens_ * layout_.rope_size;
    const float* const from = dk_rope.data<float>();
    float* const to = sums_.mutable_data<float>();
    stream.parallel_for(head_stride, 1024, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t head = first_head; head < first_head + num_heads; ++head) {
        float* const sums = to + head / heads_per_chunk_ * head_stride + begin;
        const float* const terms = from + (head - first_head) * head_stride + begin;
        const bool is_first = head % heads_per_chunk_ == 0;
        simd::for_each_block(end - begin, [&](std::int64_t i, auto extent) {
          const simd::Floats term = simd::load(terms + i, extent);
          simd::store(is_first ? term : simd::load(sums + i, extent) + term, sums + i, extent);
        });
      }
    });
  }

  // Into the columns of k_rope of dlatent.
  void write(Tensor& dlatent, Stream& stream) const {
    float* const to = dlatent.mutable_data<float>() + layout_.rope_column;
    stream.parallel_for(num_tokens_, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t token = begin; token < end; ++token) {
        simd::for_each_block(layout_.rope_size, [&](std::int64_t column, auto extent) {
          simd::store(sum_chunks(0, num_chunks_, token * layout_.rope_size + column, extent),
                      to + token * layout_.latent_stride + column, extent);
        });
      }
    });
  }

 private:
  template <class Extent>
  simd::Floats sum_chunks(std::int64_t first, std::int64_t count, std::int64_t element,
                          Extent extent) const {
    if (count == 1) {
      return simd::load(sums_.data<float>() + first * num_tokens_ * layout_.rope_size + element,
                        extent);
    }
    const std::int64_t half = count / 2;
    const simd::Floats left = sum_chunks(first, half, element, extent);
    return left + sum_chunks(first + half, half, element, extent);
  }

  const AttentionLayout& layout_;
  std::int64_t num_tokens_;
  std::int64_t num_chunks_;
  std::int64_t heads_per_chunk_;
  Tensor sums_;  // [num_chunks, num_tokens, rope]
};

void backward(const AttentionShape& shape, const AttentionSaved& saved, const Tensor& dout,
              Tensor& dq, Tensor& dkv, Tensor& dlatent, Stream& stream) {
  const AttentionLayout layout(shape, saved.inputs.latent.size(1));
  const std::int64_t num_tokens = saved.inputs.q.size(0);
  const std::vector<Segment> segments = checked_segments(saved.inputs.segments, num_tokens);
  const std::int64_t most_blocks = Segment{0, longest_of(segments)}.num_blocks();
  // A group of heads at a time bounds the memory for their gradients of k_rope; enough of them to
  // keep the threads busy.
  const std::int64_t group_size =
      std::min<std::int64_t>(shape.num_heads, std::max(8, 2 * stream.num_threads()));
  Tensor dk_rope =
      Tensor::empty({group_size, num_tokens, layout.rope_size}, DType::kFloat32, stream);
  HeadSums sums(shape, layout, num_tokens, stream);
  const Inputs inputs{saved.inputs.q.data<float>(),
                      saved.inputs.kv.data<float>(),
                      saved.inputs.latent.data<float>(),
                      saved.out.data<float>(),
                      saved.lse.data<float>(),
                      dout.data<float>(),
                      shape.scale};
  for (std::int64_t first_head = 0; first_head < shape.num_heads; first_head += group_size) {
    const std::int64_t num_heads = std::min(group_size, shape.num_heads - first_head);
    std::vector<std::int64_t> weights;  // pairs of blocks of (segment, head)
    for (const Segment& segment : segments) {
      weights.insert(weights.end(), static_cast<std::size_t>(num_heads),
                     segment.num_blocks() * (segment.num_blocks() + 1) / 2);
    }
    parallel_for_weighted(weights, 1, stream, [&](std::size_t begin, std::size_t end) {
      if (begin == end) {
        return;
      }
      BackwardHead backward_head(layout, most_blocks, stream);
      for (std::size_t i = begin; i < end; ++i) {
        const std::int64_t head = static_cast<std::int64_t>(i) % num_heads;
        backward_head.run(inputs, segments[i / static_cast<std::size_t>(num_heads)],
                          first_head + head,
                          {dq.mutable_data<float>(), dkv.mutable_data<float>(),
                           dk_rope.mutable_data<float>() + head * num_tokens * layout.rope_size});
      }
    });
    sums.add(dk_rope, first_head, num_heads, stream);
  }
  sums.write(dlatent, stream);
}

const KernelRegistration register_backward(attention_backward_slot, DeviceType::kCpu, &backward);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
