#pragma once

#include <algorithm>

#include "kernels/cuda/attention_tiles.cuh"

namespace fathom::kernels::cuda {

// Attention to pages. Long sequences are cut into splits, whose sums a second kernel combines
// (Flash-Decoding): few sequences fill the device too. Not where the order of sums is fixed: the
// number of splits is one of the whole call.
inline constexpr int kPagedRowTiles = 1;
inline constexpr int kQueriesOfTile = kPagedRowTiles * Tile::kRows;

// Keys in pages of the sequence's tokens.
template <class T>
struct PageKeys {
  static constexpr bool kAreContiguous = true;
  const T* cache;
  std::int64_t page_size;
  Spans spans;
  PageLayout layout;

  __device__ KeyRows<T> rows(const int4& span, int first_key, int num_keys, int head) const {
    const int page = spans.page(span, first_key);
    const int num_rows = page < 0 ? 0 : num_keys;
    const T* const from = cache + max(page, 0) * page_size;
    const int head_of_page = layout.num_heads == 1 ? 0 : head;
    return {{from + layout.keys(head_of_page), layout.key_size, num_rows},
            {from + layout.rope(), layout.rope_size, num_rows},
            {from + layout.values(head_of_page), layout.value_stride, num_rows}};
  }
};
template <class T>
using PagedInputs = AttentionTiles<T, PageKeys<T>>;

// out = sum over splits of exp(maximum - largest) sums / the same of weights; 0 for a query that no
// split has. A split without a key of the query has the weight 0, one whose scores are no numbers a
// NaN, which goes into the result. A warp a query.
template <class T>
__global__ void __launch_bounds__(kAttentionThreads)
    combine_splits(PartialSums partial, int num_splits, std::int64_t num_queries, int value_size,
                   T* out) {
  const std::int64_t query = std::int64_t{blockIdx.x} * kAttentionWarps + threadIdx.x / kWarpSize;
  if (query >= num_queries) {
    return;
  }
  float largest = -INFINITY;
  for (int split = 0; split < num_splits; ++split) {
    if (partial.weights[split * num_queries + query] != 0.0F) {
      largest = Max::of(largest, partial.maxima[split * num_queries + query]);
    }
  }
  for (int column = static_cast<int>(threadIdx.x) % kWarpSize; column < value_size;
       column += kWarpSize) {
    float sum = 0.0F;
    float weight = 0.0F;
    for (int split = 0; split < num_splits; ++split) {
      const std::int64_t at = split * num_queries + query;
      if (partial.weights[at] != 0.0F) {
        const float share = __expf(partial.maxima[at] - largest);
        sum += share * partial.sums[at * value_size + column];
        weight += share * partial.weights[at];
      }
    }
    out[query * value_size + column] = from_float<T>(weight != 0.0F ? sum / weight : 0.0F);
  }
}

// Splits that give each multiprocessor of an H100 up to two blocks, none shorter than an average
// sequence's page.
inline int num_splits_for(std::int64_t num_blocks, const PagedSequences& sequences,
                          const Stream& stream) {
  if (stream.sum_order() == SumOrder::kFixed) {
    return 1;
  }
  constexpr std::int64_t kWantedBlocks = 264;
  constexpr std::int64_t kMaxSplits = 32;
  const std::int64_t pages =
      sequences.pages.size(0) / std::max<std::int64_t>(1, sequences.spans.size(0));
  const std::int64_t wanted = kWantedBlocks / std::max<std::int64_t>(1, num_blocks);
  return static_cast<int>(std::clamp<std::int64_t>(std::min(wanted, pages), 1, kMaxSplits));
}

// Memory of the partial sums; none for one split.
struct PartialMemory {
  PartialMemory(int num_splits, std::int64_t num_queries, int value_size, Stream& stream) {
    if (num_splits > 1) {
      sums = Tensor::empty({num_splits * num_queries * value_size}, DType::kFloat32, stream);
      weights = Tensor::zeros({num_splits * num_queries}, DType::kFloat32, stream);
      maxima = Tensor::empty({num_splits * num_queries}, DType::kFloat32, stream);
    }
  }
  PartialSums pointers() {
    if (!sums.defined()) {
      return {};
    }
    return {device_data<float>(sums), device_data<float>(weights), device_data<float>(maxima)};
  }
  Tensor sums, weights, maxima;
};

// out [num_rows, num_heads * value_size]; rows outside all spans become 0. `inputs` without splits.
template <class T, int N>
void attend(PagedInputs<T> inputs, const PagedSequences& sequences, Tensor& out, Stream& stream) {
  const TileMemory<T, kPagedRowTiles> memory(SharedMemory(nullptr), inputs.sizes,
                                             inputs.value_size);
  FATHOM_CHECK(memory.size <= kMostShared && inputs.value_size <= kMaxValue<kPagedRowTiles>,
               "attention to pages on CUDA takes no keys of ", inputs.sizes.key, " + ",
               inputs.sizes.rope, " and values of ", inputs.value_size, " numbers");
  const TilePlan plan =
      plan_tiles(inputs.keys.spans, kQueriesOfTile / inputs.heads_of_tile, stream);
  if (plan.num_tiles == 0) {  // no spans: a split walk over nothing would leave rows unwritten
    stream.queue()->fill_zero(out.raw(), out.size_bytes());
    return;
  }
  const std::int64_t num_queries = out.size(0) * inputs.num_heads;
  const std::int64_t num_blocks =
      plan.num_tiles * blocks_for(inputs.num_heads, inputs.heads_of_tile);
  inputs.num_splits = num_splits_for(num_blocks, sequences, stream);
  if (inputs.num_splits == 1) {
    stream.queue()->fill_zero(out.raw(), out.size_bytes());
  }
  PartialMemory partial(inputs.num_splits, num_queries, inputs.value_size, stream);
  launch(attend_tiles<T, N, kPagedRowTiles, PageKeys<T>>,
         {num_blocks * inputs.num_splits, kAttentionThreads, memory.size}, stream, inputs,
         plan.data(), AttentionResult<T>{device_data<T>(out), nullptr, partial.pointers()});
  if (inputs.num_splits > 1) {
    launch(combine_splits<T>, {blocks_for(num_queries, kAttentionWarps), kAttentionThreads}, stream,
           partial.pointers(), inputs.num_splits, num_queries, inputs.value_size,
           device_data<T>(out));
  }
}

}  // namespace fathom::kernels::cuda
