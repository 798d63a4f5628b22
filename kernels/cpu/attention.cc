#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/weighted_for.h"

namespace fathom::kernels {
namespace cpu {
namespace {

// The softmax of one block of queries so far, as of FlashAttention (arXiv:2205.14135, alg. 1): out
// holds sums of exp(s - max) v, sums those of exp(s - max) in 16 lanes.
struct OnlineSoftmax {
  float* max;   // [64]
  float* sums;  // [64, 16]
  float* out;   // [64, padded_value]
};

// New rows of one isolated sequence and the keys that they see: the last num_queries of its
// num_keys tokens ask. A whole segment asks with all of its tokens.
struct Span {
  std::int64_t first_query = 0;  // row of q and out
  std::int64_t num_queries = 0;
  std::int64_t first_key = 0;  // row of kv and latent
  std::int64_t num_keys = 0;

  std::int64_t first_position() const { return num_keys - num_queries; }
  std::int64_t first_block() const { return first_position() / kBlock; }
  std::int64_t num_blocks() const { return (num_keys + kBlock - 1) / kBlock; }
};

struct InputData {
  const float* q;
  const float* kv;
  const float* latent;
  float scale;
};
struct OutputData {
  float* out;
  float* lse;  // may be null
};

// One head of one span, on one thread.
class ForwardHead {
 public:
  ForwardHead(const AttentionLayout& layout, std::int64_t longest, Stream& stream)
      : layout_(layout),
        scratch_(scratch_size(layout, longest), stream),
        keys_(scratch_.take(layout.padded_key * round_up_to_block(longest))),
        values_(scratch_.take(layout.padded_value * round_up_to_block(longest))),
        softmax_{scratch_.take(kBlock), scratch_.take(kBlock * simd::kLanes),
                 scratch_.take(kBlock * layout.padded_value)} {}

  void start(const Span& span, std::int64_t head) {
    span_ = span;
    head_ = head;
    num_packed_blocks_ = 0;
  }

  // The queries whose positions lie in block `query_block`.
  void attend(const InputData& inputs, std::int64_t query_block, const OutputData& outputs) {
    while (num_packed_blocks_ <= query_block) {
      pack(inputs, num_packed_blocks_++);
    }
    const std::int64_t block_first = query_block * kBlock;
    const auto begin =
        static_cast<int>(std::max<std::int64_t>(0, span_.first_position() - block_first));
    const auto end = static_cast<int>(std::min(kBlock, span_.num_keys - block_first));
    std::fill_n(softmax_.max + begin, end - begin, -std::numeric_limits<float>::infinity());
    std::fill_n(softmax_.sums + begin * simd::kLanes, (end - begin) * simd::kLanes, 0.0F);
    std::fill_n(softmax_.out + begin * layout_.padded_value, (end - begin) * layout_.padded_value,
                0.0F);
    const std::int64_t query_of_row = span_.first_query + block_first - span_.first_position();
    for (std::int64_t key_block = 0; key_block <= query_block; ++key_block) {
      const KeyBlock keys{keys_ + key_block * layout_.padded_key * kBlock,
                          values_ + key_block * layout_.padded_value * kBlock,
                          key_block == query_block};
      for_each_row_tile(begin, end, [&](auto num_tile_rows, int row) {
        const HeadRows rows(layout_, query_of_row + row, head_);
        add_key_block<num_tile_rows>({inputs.q + rows.q, layout_.q_stride}, row, inputs.scale,
                                     keys);
      });
    }
    for (int row = begin; row < end; ++row) {
      const HeadRows rows(layout_, query_of_row + row, head_);
      finish(row, outputs.out + rows.out,
             outputs.lse == nullptr ? nullptr : outputs.lse + rows.lse);
    }
  }

 private:
  struct KeyBlock {
    const float* keys;    // [key_size, 64], transposed
    const float* values;  // [64, padded_value]
    bool is_diagonal;     // the queries' own block: key j is seen by query i >= j
  };

  static std::int64_t round_up_to_block(std::int64_t size) {
    return (size + kBlock - 1) / kBlock * kBlock;
  }
  static std::int64_t scratch_size(const AttentionLayout& layout, std::int64_t longest) {
    return (layout.padded_key + layout.padded_value) * round_up_to_block(longest) +
           kBlock * (1 + simd::kLanes + layout.padded_value);
  }

  void pack(const InputData& inputs, std::int64_t block) {
    const HeadRows rows(layout_, span_.first_key + block * kBlock, head_);
    const std::int64_t num_rows = std::min(kBlock, span_.num_keys - block * kBlock);
    float* const keys = keys_ + block * layout_.padded_key * kBlock;
    float* const values = values_ + block * layout_.padded_value * kBlock;
    if (num_rows < kBlock) {  // masked, but not to be read uninitialized
      std::fill_n(keys, layout_.padded_key * kBlock, 0.0F);
    }
    if (layout_.padded_value > layout_.value_size) {
      std::fill_n(values, layout_.padded_value * kBlock, 0.0F);
    }
    transpose({inputs.kv + rows.nope, layout_.kv_stride}, num_rows, layout_.nope_size, keys,
              kBlock);
    transpose({inputs.latent + rows.rope, layout_.latent_stride}, num_rows, layout_.rope_size,
              keys + layout_.nope_size * kBlock, kBlock);
    copy_rows({inputs.kv + rows.value, layout_.kv_stride}, num_rows, layout_.value_size, values,
              layout_.padded_value);
  }

  // Scores, weights and weighted values of kRows queries, the first at `row` of its block, and up
  // to 64 keys.
  template <int kRows>
  void add_key_block(const Left<Layout::kRowMajor>& q, std::int64_t row, float scale,
                     const KeyBlock& block) {
    alignas(64) float weights[kRows * kBlock];
    alignas(64) float correction[simd::kLanes] = {};
    const std::int64_t num_keys = block.is_diagonal ? row + kRows : kBlock;
    for (std::int64_t key = 0; key < num_keys; key += simd::kLanes) {
      const auto scores = multiply_tile<kRows>(q, {block.keys + key, kBlock}, 0, layout_.key_size);
      for (int r = 0; r < kRows; ++r) {
        simd::Floats score = scores.row[r] * simd::broadcast(scale);
        if (block.is_diagonal && key + simd::kLanes > row + 1) {
          score = simd::select(simd::first_lanes(row + r + 1 - key), score,
                               simd::broadcast(-std::numeric_limits<float>::infinity()));
        }
        simd::store(score, weights + r * kBlock + key);
      }
    }
    update_softmax<kRows>(row, num_keys, weights, correction);
    for (std::int64_t column = 0; column < layout_.padded_value; column += simd::kLanes) {
      const Left<Layout::kRowMajor> left{weights, kBlock};
      const Right values{block.values + column, layout_.padded_value};
      const auto sums = block.is_diagonal ? multiply_tile_to_diagonal<kRows>(left, values, row)
                                          : multiply_tile<kRows>(left, values, 0, num_keys);
      for (int r = 0; r < kRows; ++r) {
        float* const out = softmax_.out + (row + r) * layout_.padded_value + column;
        simd::store(simd::fma(simd::load(out), simd::broadcast(correction[r]), sums.row[r]), out);
      }
    }
  }

  // Turns scores into exp(score - max), and gives the factor by which the sums so far have shrunk.
  template <int kRows>
  void update_softmax(std::int64_t row, std::int64_t num_keys, float* weights, float* correction) {
    alignas(64) float new_max[simd::kLanes] = {};
    for (int r = 0; r < kRows; ++r) {
      simd::Floats largest = simd::load(weights + r * kBlock);
      for (std::int64_t key = simd::kLanes; key < num_keys; key += simd::kLanes) {
        largest = simd::max(simd::load(weights + r * kBlock + key), largest);
      }
      new_max[r] = std::max(softmax_.max[row + r], simd::max(largest));
    }
    for (int r = 0; r < kRows; ++r) {
      correction[r] = softmax_.max[row + r];
      softmax_.max[row + r] = new_max[r];
    }
    simd::store(simd::exp_or_zero(simd::load(correction) - simd::load(new_max)), correction);
    for (int r = 0; r < kRows; ++r) {
      float* const row_sums = softmax_.sums + (row + r) * simd::kLanes;
      simd::Floats sums = simd::load(row_sums) * simd::broadcast(correction[r]);
      for (std::int64_t key = 0; key < num_keys; key += simd::kLanes) {
        float* const weight = weights + r * kBlock + key;
        const simd::Floats exponential =
            simd::exp_or_zero(simd::load(weight) - simd::broadcast(new_max[r]));
        simd::store(exponential, weight);
        sums = sums + exponential;
      }
      simd::store(sums, row_sums);
    }
  }

  void finish(std::int64_t row, float* out, float* lse) {
    const float sum = simd::sum(simd::load(softmax_.sums + row * simd::kLanes));
    const float* const sums = softmax_.out + row * layout_.padded_value;
    simd::for_each_block(layout_.value_size, [&](std::int64_t column, auto extent) {
      // Adding +0 makes every zero a positive one: whether a product underflowed to -0 would
      // otherwise depend on how many masked keys the row's tile had.
      simd::store(simd::load(sums + column, extent) / simd::broadcast(sum) + simd::zero(),
                  out + column, extent);
    });
    if (lse != nullptr) {
      *lse = softmax_.max[row] + simd::log_scalar(sum);
    }
  }

  const AttentionLayout& layout_;
  Scratch scratch_;
  float* keys_;
  float* values_;
  OnlineSoftmax softmax_;
  Span span_;
  std::int64_t head_ = 0;
  std::int64_t num_packed_blocks_ = 0;
};

struct QueryBlock {
  std::size_t span;
  std::int64_t head;
  std::int64_t block;
};

void attend_spans(const AttentionLayout& layout, const std::vector<Span>& spans,
                  const InputData& from, const OutputData& to, Stream& stream) {
  std::vector<QueryBlock> blocks;
  std::vector<std::int64_t> weights;  // key blocks
  std::int64_t longest = 0;
  for (std::size_t span = 0; span < spans.size(); ++span) {
    longest = std::max(longest, spans[span].num_keys);
    for (std::int64_t head = 0; head < layout.num_heads; ++head) {
      for (std::int64_t block = spans[span].first_block(); block < spans[span].num_blocks();
           ++block) {
        blocks.push_back({span, head, block});
        weights.push_back(block + 1);
      }
    }
  }
  parallel_for_weighted(weights, 1, stream, [&](std::size_t begin, std::size_t end) {
    if (begin == end) {
      return;
    }
    ForwardHead forward_head(layout, longest, stream);
    for (std::size_t i = begin; i < end; ++i) {
      const QueryBlock& item = blocks[i];
      if (i == begin || item.block == spans[item.span].first_block()) {
        forward_head.start(spans[item.span], item.head);
      }
      forward_head.attend(from, item.block, to);
    }
  });
}

void forward(const AttentionShape& shape, const AttentionInputs& inputs, Tensor& out, Tensor& lse,
             Stream& stream) {
  std::vector<Span> spans;
  for (const Segment& segment : checked_segments(inputs.segments, inputs.q.size(0))) {
    spans.push_back({segment.first, segment.size, segment.first, segment.size});
  }
  attend_spans(
      AttentionLayout(shape, inputs.latent), spans,
      {inputs.q.data<float>(), inputs.kv.data<float>(), inputs.latent.data<float>(), shape.scale},
      {out.mutable_data<float>(), lse.mutable_data<float>()}, stream);
}

std::vector<Span> checked_spans(const CachedAttentionInputs& inputs) {
  const auto numbers = inputs.spans.values<std::int32_t>();
  std::vector<Span> spans;
  for (std::size_t i = 0; i < numbers.size(); i += 4) {
    const Span span{numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3]};
    FATHOM_CHECK(span.first_query >= 0 && span.num_queries > 0 &&
                     span.first_query + span.num_queries <= inputs.q.size(0) &&
                     span.first_key >= 0 && span.num_keys >= span.num_queries &&
                     span.first_key + span.num_keys <= inputs.kv.size(0),
                 "attention: span ", i / 4, " of ", span.num_queries, " queries from row ",
                 span.first_query, " of ", inputs.q.size(0), " and ", span.num_keys,
                 " keys from row ", span.first_key, " of ", inputs.kv.size(0));
    spans.push_back(span);
  }
  return spans;
}

void forward_cached(const AttentionShape& shape, const CachedAttentionInputs& inputs, Tensor& out,
                    Stream& stream) {
  const std::vector<Span> spans = checked_spans(inputs);
  auto* const rows = out.mutable_data<float>();
  std::fill_n(rows, out.numel(), 0.0F);
  attend_spans(
      AttentionLayout(shape, inputs.latent), spans,
      {inputs.q.data<float>(), inputs.kv.data<float>(), inputs.latent.data<float>(), shape.scale},
      {rows, nullptr}, stream);
}

const KernelRegistration register_forward(attention_forward_slot, DeviceType::kCpu, &forward);
const KernelRegistration register_forward_cached(cached_attention_forward_slot, DeviceType::kCpu,
                                                 &forward_cached);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
