#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cpu/attention_blocks.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tile.h"

namespace fathom::kernels::cpu {

// The keys and values of one head at 64 positions, as the registers want them.
struct KeyBlock {
  const float* nope;    // [nope_size, 64]
  const float* rope;    // [rope_size, 64]
  const float* values;  // [64, padded_value]
};

// Rows [begin, end) of a block of 64.
struct BlockRows {
  int begin = 0;
  int end = 0;
};

// Row r sees the first of_row(r) keys of a block.
struct SeenKeys {
  std::int64_t count = kBlock;
  std::int64_t per_row = 0;

  std::int64_t of_row(std::int64_t row) const { return count + per_row * row; }
};
inline constexpr SeenKeys kAllKeys{};
// Where rows and keys are the same positions.
inline constexpr SeenKeys kKeysUpToRow{1, 1};

// The query of the first of some rows, and elements from one row to the next.
struct QueryRows {
  const float* nope;
  std::int64_t nope_stride;
  const float* rope;
  std::int64_t rope_stride;
};

// Of one head, from its part of a row of q on.
inline QueryRows query_rows(const AttentionLayout& layout, const float* q) {
  return {q, layout.q_stride, q + layout.nope_size, layout.q_stride};
}

// Attention of up to 64 queries to one sequence of keys, key block by key block. The softmax so far
// is that of FlashAttention (arXiv:2205.14135, alg. 1): out holds sums of exp(s - max) v, sums
// those of exp(s - max) in 16 lanes. One definition for whole sequences and for new tokens of kept
// ones: the same bits.
class BlockAttention {
 public:
  static std::int64_t scratch_size(const AttentionLayout& layout) {
    return kBlock * (1 + simd::kLanes + layout.padded_value);
  }
  BlockAttention(const AttentionLayout& layout, Scratch& scratch)
      : layout_(layout),
        softmax_{scratch.take(kBlock), scratch.take(kBlock * simd::kLanes),
                 scratch.take(kBlock * layout.padded_value)} {}

  // q: of row rows.begin.
  void start(BlockRows rows, const QueryRows& q) {
    rows_ = rows;
    q_ = q;
    const std::int64_t count = rows.end - rows.begin;
    std::fill_n(softmax_.max + rows.begin, count, -std::numeric_limits<float>::infinity());
    std::fill_n(softmax_.sums + rows.begin * simd::kLanes, count * simd::kLanes, 0.0F);
    std::fill_n(softmax_.out + rows.begin * layout_.padded_value, count * layout_.padded_value,
                0.0F);
  }
  // Key blocks in ascending order. `rows`: of those of start(), who all see a key or more.
  void add(BlockRows rows, const KeyBlock& block, const SeenKeys& seen) {
    seen_ = seen;
    for_each_row_tile(rows.begin, rows.end, [&](auto num_tile_rows, int row) {
      add_tile_of_rows<num_tile_rows>(row, block);
    });
  }
  // out, lse: of the first row; lse may be null.
  void finish(float* out, float* lse) const {
    for (int row = rows_.begin; row < rows_.end; ++row) {
      const std::int64_t index = row - rows_.begin;
      finish_row(row, out + index * layout_.out_stride,
                 lse == nullptr ? nullptr : lse + index * layout_.num_heads);
    }
  }

 private:
  struct OnlineSoftmax {
    float* max;   // [64]
    float* sums;  // [64, 16]
    float* out;   // [64, padded_value]
  };

  // Panels of sixteen columns at a time: few rows have too few chains of fused multiply-adds to
  // hide their latency.
  template <int kRows>
  static constexpr int kPanels = kRows == 1   ? 4
                                 : kRows <= 3 ? 2
                                              : 1;

  // Scores, weights and weighted values of kRows queries, the first at `row`, and up to 64 keys.
  template <int kRows>
  void add_tile_of_rows(std::int64_t row, const KeyBlock& block) {
    alignas(64) float weights[kRows * kBlock];
    alignas(64) float correction[simd::kLanes] = {};
    const std::int64_t num_keys = seen_.of_row(row + kRows - 1);
    for_each_panels<kPanels<kRows>>(round_up_to_lanes(num_keys), [&](auto panels, auto key) {
      score<kRows, panels>(row, block, key, weights);
    });
    update_softmax<kRows>(row, num_keys, weights, correction);
    for_each_panels<kPanels<kRows>>(layout_.padded_value, [&](auto panels, auto column) {
      add_values<kRows, panels>(row, block, column, weights, correction);
    });
  }

  template <int kRows, int kNumPanels>
  void score(std::int64_t row, const KeyBlock& block, std::int64_t key, float* weights) {
    const std::int64_t index = row - rows_.begin;
    TileSums<kRows> scores[kNumPanels];
    zero_panels(scores);
    // One chain over both parts of a key.
    add_panels(Left<Layout::kRowMajor>{q_.nope + index * q_.nope_stride, q_.nope_stride},
               {block.nope + key, kBlock}, layout_.nope_size, scores);
    add_panels(Left<Layout::kRowMajor>{q_.rope + index * q_.rope_stride, q_.rope_stride},
               {block.rope + key, kBlock}, layout_.rope_size, scores);
    for (int panel = 0; panel < kNumPanels; ++panel) {
      const std::int64_t first = key + panel * simd::kLanes;
      for (int r = 0; r < kRows; ++r) {
        simd::Floats score = scores[panel].row[r] * simd::broadcast(layout_.scale);
        if (first + simd::kLanes > seen_.of_row(row)) {
          score = simd::select(simd::first_lanes(seen_.of_row(row + r) - first), score,
                               simd::broadcast(-std::numeric_limits<float>::infinity()));
        }
        simd::store(score, weights + r * kBlock + first);
      }
    }
  }

  template <int kRows, int kNumPanels>
  void add_values(std::int64_t row, const KeyBlock& block, std::int64_t column,
                  const float* weights, const float* correction) {
    const Left<Layout::kRowMajor> left{weights, kBlock};
    const Right values{block.values + column, layout_.padded_value};
    TileSums<kRows> sums[kNumPanels];
    zero_panels(sums);
    if (seen_.per_row != 0 && kRows > 1) {
      for (int panel = 0; panel < kNumPanels; ++panel) {
        sums[panel] = multiply_tile_to_diagonal<kRows>(
            left, {values.data + panel * simd::kLanes, values.stride}, row);
      }
    } else {
      add_panels(left, values, seen_.of_row(row), sums);
    }
    for (int panel = 0; panel < kNumPanels; ++panel) {
      for (int r = 0; r < kRows; ++r) {
        float* const out =
            softmax_.out + (row + r) * layout_.padded_value + column + panel * simd::kLanes;
        simd::store(simd::fma(simd::load(out), simd::broadcast(correction[r]), sums[panel].row[r]),
                    out);
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

  void finish_row(std::int64_t row, float* out, float* lse) const {
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
  OnlineSoftmax softmax_;
  BlockRows rows_;
  QueryRows q_{};
  SeenKeys seen_;
};

}  // namespace fathom::kernels::cpu
