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

struct InputData {
  const float* q;
  const float* kv;
  const float* latent;
  float scale;
};
struct OutputData {
  float* out;
  float* lse;
};

// One head of one segment, on one thread.
class ForwardHead {
 public:
  ForwardHead(const AttentionLayout& layout, std::int64_t longest, Stream& stream)
      : layout_(layout),
        scratch_(scratch_size(layout, longest), stream),
        keys_(scratch_.take(layout.padded_key * round_up_to_block(longest))),
        values_(scratch_.take(layout.padded_value * round_up_to_block(longest))),
        softmax_{scratch_.take(kBlock), scratch_.take(kBlock * simd::kLanes),
                 scratch_.take(kBlock * layout.padded_value)} {}

  void start(const Segment& segment, std::int64_t head) {
    segment_ = segment;
    head_ = head;
    num_packed_blocks_ = 0;
  }

  void attend(const InputData& inputs, std::int64_t query_block, const OutputData& outputs) {
    while (num_packed_blocks_ <= query_block) {
      pack(inputs, num_packed_blocks_++);
    }
    std::fill_n(softmax_.max, kBlock, -std::numeric_limits<float>::infinity());
    std::fill_n(softmax_.sums, kBlock * simd::kLanes, 0.0F);
    std::fill_n(softmax_.out, kBlock * layout_.padded_value, 0.0F);
    const int num_rows = segment_.block_rows(query_block);
    const HeadRows rows(layout_, segment_.first + query_block * kBlock, head_);
    for (std::int64_t key_block = 0; key_block <= query_block; ++key_block) {
      const KeyBlock keys{keys_ + key_block * layout_.padded_key * kBlock,
                          values_ + key_block * layout_.padded_value * kBlock,
                          key_block == query_block};
      for_each_row_tile(0, num_rows, [&](auto num_tile_rows, int row) {
        add_key_block<num_tile_rows>({inputs.q + rows.q, layout_.q_stride}, row, inputs.scale,
                                     keys);
      });
    }
    for (int row = 0; row < num_rows; ++row) {
      finish(row, outputs.out + rows.out + row * layout_.out_stride,
             outputs.lse + rows.lse + row * layout_.num_heads);
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
    const HeadRows rows(layout_, segment_.first + block * kBlock, head_);
    const std::int64_t num_rows = segment_.block_rows(block);
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

  // Scores, weights and weighted values of kRows queries and up to 64 keys.
  template <int kRows>
  void add_key_block(const Left<Layout::kRowMajor>& q, std::int64_t row, float scale,
                     const KeyBlock& block) {
    alignas(64) float weights[kRows * kBlock];
    alignas(64) float correction[simd::kLanes] = {};
    const std::int64_t num_keys = block.is_diagonal ? row + kRows : kBlock;
    for (std::int64_t key = 0; key < num_keys; key += simd::kLanes) {
      const auto scores = multiply_tile<kRows>(Left<Layout::kRowMajor>{q.at(row, 0), q.stride},
                                               {block.keys + key, kBlock}, 0, layout_.key_size);
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
    *lse = softmax_.max[row] + simd::log_scalar(sum);
  }

  const AttentionLayout& layout_;
  Scratch scratch_;
  float* keys_;
  float* values_;
  OnlineSoftmax softmax_;
  Segment segment_;
  std::int64_t head_ = 0;
  std::int64_t num_packed_blocks_ = 0;
};

struct QueryBlock {
  std::size_t segment;
  std::int64_t head;
  std::int64_t block;
};

void forward(const AttentionShape& shape, const AttentionInputs& inputs, Tensor& out, Tensor& lse,
             Stream& stream) {
  const AttentionLayout layout(shape, inputs.latent);
  const std::vector<Segment> ranges = checked_segments(inputs.segments, inputs.q.size(0));
  std::vector<QueryBlock> blocks;
  std::vector<std::int64_t> weights;  // key blocks
  for (std::size_t segment = 0; segment < ranges.size(); ++segment) {
    for (std::int64_t head = 0; head < shape.num_heads; ++head) {
      for (std::int64_t block = 0; block < ranges[segment].num_blocks(); ++block) {
        blocks.push_back({segment, head, block});
        weights.push_back(block + 1);
      }
    }
  }
  const InputData from{inputs.q.data<float>(), inputs.kv.data<float>(), inputs.latent.data<float>(),
                       shape.scale};
  const OutputData to{out.mutable_data<float>(), lse.mutable_data<float>()};
  parallel_for_weighted(weights, 1, stream, [&](std::size_t begin, std::size_t end) {
    if (begin == end) {
      return;
    }
    ForwardHead forward_head(layout, longest_of(ranges), stream);
    for (std::size_t i = begin; i < end; ++i) {
      const QueryBlock& item = blocks[i];
      if (i == begin || item.block == 0) {
        forward_head.start(ranges[item.segment], item.head);
      }
      forward_head.attend(from, item.block, to);
    }
  });
}

const KernelRegistration register_forward(attention_forward_slot, DeviceType::kCpu, &forward);

}  // namespace
}  // namespace cpu
}  // namespace fathom::kernels
