#pragma once

#include <algorithm>

#include "kernels/cuda/pages.cuh"
#include "kernels/cuda/shared_memory.cuh"
#include "kernels/cuda/warp_product.cuh"

namespace fathom::kernels::cuda {

// Attention to pages. A block has 16 queries that see the same keys up to their own places: heads
// of one token where all heads share the keys, else tokens of one head. Long sequences are cut into
// splits, whose sums a second kernel combines (Flash-Decoding): few sequences fill the device too.
inline constexpr int kQueriesOfTile = Tile::kRows;
inline constexpr int kPagedThreads = 256;
inline constexpr int kPagedWarps = kPagedThreads / kWarpSize;
inline constexpr int kPage = static_cast<int>(kPageTokens);
// Columns of values: the sums are kept in registers.
inline constexpr int kMaxPagedValue = 512;

template <class T>
struct PagedInputs {
  // A query is [keys' part | rotated part].
  const T* queries;
  const T* rope;
  int query_row, query_head;  // strides of rows and heads
  int rope_row, rope_head;
  const T* cache;
  std::int64_t page_size;
  Spans spans;
  PageLayout layout;
  int num_heads;      // of the queries
  int heads_of_tile;  // 1: tiles of tokens
  int value_size;     // of the output
  int num_splits;
  float scale;

  __device__ int tokens_of_tile() const { return kQueriesOfTile / heads_of_tile; }
  __device__ int head_groups() const { return (num_heads + heads_of_tile - 1) / heads_of_tile; }
};

// Sums of one split: of exponentials times values, not yet divided; of exponentials; the maximum.
struct PartialSums {
  float* sums;     // [split, row, head, value_size]
  float* weights;  // [split, row, head]; 0 where a split has no key for a query
  float* maxima;   // [split, row, head]
};

// tiles[i] = (sequence, first of its tokens), or (-1, 0). One warp.
__global__ void __launch_bounds__(kWarpSize)
    plan_tiles(Spans spans, int tokens_of_tile, int num_tiles, int2* tiles);

// What a tile works on.
struct TileWork {
  int4 span;
  int first_token;  // of the new ones of the sequence
  int num_tokens;
  int first_head;
  int split;

  // Keys that the query of this token of the tile sees.
  __device__ int num_keys(int token) const { return span.z - span.y + first_token + token + 1; }
};

template <class T>
struct PagedMemory {
  __host__ __device__ PagedMemory(SharedMemory memory, const PageLayout& layout, int value_size)
      : key_columns(padded_to_steps(layout.key_size)),
        columns(key_columns + padded_to_steps(layout.rope_size)),
        stride(shared_stride<T>(columns)),
        value_stride(layout.value_size == 0 ? stride : shared_stride<T>(value_size)),
        queries(memory.take<T>(kQueriesOfTile * stride)),
        keys(memory.take<T>(kPage * stride)),
        values(layout.value_size == 0 ? keys : memory.take<T>(kPage * value_stride)),
        weights(memory.take<T>(kQueriesOfTile * kWeightStride)),
        scores(memory.take<float>(kQueriesOfTile * (kPage + 1))),
        scales(memory.take<float>(kQueriesOfTile)),
        size(memory.used()) {}

  static constexpr int kWeightStride = shared_stride<T>(kPage);
  int key_columns;
  int columns;
  int stride;
  int value_stride;
  T* queries;
  T* keys;
  T* values;
  T* weights;
  float* scores;
  float* scales;
  int size;
};

// Query r of a tile: token r / heads_of_tile, head r % heads_of_tile.
template <class T>
struct QueryPlace {
  __device__ QueryPlace(const PagedInputs<T>& inputs, const TileWork& work, int query)
      : token(query / inputs.heads_of_tile),
        row(work.span.x + work.first_token + token),
        head(work.first_head + query % inputs.heads_of_tile),
        exists(token < work.num_tokens && head < inputs.num_heads) {}
  int token;
  int row;
  int head;
  bool exists;
};

template <int N, class T>
__device__ void load_tile_queries(const PagedMemory<T>& memory, const PagedInputs<T>& inputs,
                                  const TileWork& work) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int query = warp; query < kQueriesOfTile; query += kPagedWarps) {
    const QueryPlace<T> place(inputs, work, query);
    const int count = place.exists ? 1 : 0;
    const T* const keys_part = inputs.queries + std::int64_t{place.row} * inputs.query_row +
                               place.head * inputs.query_head;
    const T* const rope_part =
        inputs.rope + std::int64_t{place.row} * inputs.rope_row + place.head * inputs.rope_head;
    T* const to = memory.queries + query * memory.stride;
    load_row<N>(keys_part, count * inputs.layout.key_size, memory.key_columns, to);
    load_row<N>(rope_part, count * inputs.layout.rope_size, memory.columns - memory.key_columns,
                to + memory.key_columns);
  }
}

// A page of keys and values for one head, those that are there.
template <class T>
struct PageRows {
  DeviceRows<T> keys, rope, values;
};
template <class T>
__device__ PageRows<T> rows_of_page(const PagedInputs<T>& inputs, const TileWork& work,
                                    int first_key) {
  const PageLayout& layout = inputs.layout;
  const int page = inputs.spans.page(work.span, first_key);
  const int num_keys = page < 0 ? 0 : min(kPage, work.num_keys(work.num_tokens - 1) - first_key);
  const T* const from = inputs.cache + max(page, 0) * inputs.page_size;
  const int head = layout.num_heads == 1 ? 0 : work.first_head;
  return {{from + layout.keys(head), layout.key_size, num_keys},
          {from + layout.rope(), layout.rope_size, num_keys},
          {from + layout.values(head), layout.value_stride, num_keys}};
}

// What is not there is 0.
template <int N, class T>
__device__ void load_page(const PagedMemory<T>& memory, const PageLayout& layout,
                          const PageRows<T>& rows) {
  load_rows<N>(rows.keys, layout.key_size, memory.key_columns, kPage, memory.keys, memory.stride);
  load_rows<N>(rows.rope, layout.rope_size, memory.columns - memory.key_columns, kPage,
               memory.keys + memory.key_columns, memory.stride);
  if (layout.value_size > 0) {
    load_rows<N>(rows.values, layout.value_size, padded_to_steps(layout.value_size), kPage,
                 memory.values, memory.value_stride);
  }
}
template <class T>
__device__ void prefetch_page(const PageLayout& layout, const PageRows<T>& rows) {
  prefetch_rows(rows.keys);
  prefetch_rows(rows.rope);
  if (layout.value_size > 0) {
    prefetch_rows(rows.values);
  }
}

// Each warp makes the scores of 8 keys; -inf for keys that a query does not see.
template <class T>
__device__ void make_page_scores(const PagedMemory<T>& memory, const PagedInputs<T>& inputs,
                                 const TileWork& work, int first_key) {
  const int column = static_cast<int>(threadIdx.x) / kWarpSize * Tile::kColumns;
  Tile tile;
  add_product(tile, RowsOf<T>{memory.queries, memory.stride},
              RowsOf<T>{memory.keys + column * memory.stride, memory.stride}, memory.columns);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int query = Tile::row(i);
    const int key = column + Tile::column(i);
    const QueryPlace<T> place(inputs, work, query);
    const bool is_seen = place.exists && first_key + key < work.num_keys(place.token);
    memory.scores[query * (kPage + 1) + key] = is_seen ? tile.values[i] * inputs.scale : -INFINITY;
  }
}

// Maximum and sum of exponentials of two queries a warp.
struct PagedSoftmax {
  static constexpr int kRows = kQueriesOfTile / kPagedWarps;
  float maximum[kRows] = {-INFINITY, -INFINITY};
  float sum[kRows] = {};

  __device__ static int row(int i) { return static_cast<int>(threadIdx.x) / kWarpSize * kRows + i; }
  template <class T>
  __device__ void add(const PagedMemory<T>& memory) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float* const scores = memory.scores + row(i) * (kPage + 1);
      const float low = scores[lane];
      const float high = scores[lane + kWarpSize];
      const float largest = Max::of(maximum[i], reduce_warp<Max>(Max::of(low, high)));
      const float low_weight = low == -INFINITY ? 0.0F : __expf(low - largest);
      const float high_weight = high == -INFINITY ? 0.0F : __expf(high - largest);
      const float scale = maximum[i] == -INFINITY ? 0.0F : __expf(maximum[i] - largest);
      sum[i] = sum[i] * scale + reduce_warp<Sum>(low_weight + high_weight);
      maximum[i] = largest;
      T* const weights = memory.weights + row(i) * PagedMemory<T>::kWeightStride;
      weights[lane] = from_float<T>(low_weight);
      weights[lane + kWarpSize] = from_float<T>(high_weight);
      if (lane == 0) {
        memory.scales[row(i)] = scale;
      }
    }
  }
};

// The sums of 16 queries: warp w has the columns 8 (w + 8 i).
struct PagedSums {
  static constexpr int kTiles = kMaxPagedValue / Tile::kColumns / kPagedWarps;
  __device__ static int column(int i) {
    return (static_cast<int>(threadIdx.x) / kWarpSize + i * kPagedWarps) * Tile::kColumns;
  }
  Tile tiles[kTiles];

  template <class T>
  __device__ void add(const PagedMemory<T>& memory, int value_size) {
    const float low = memory.scales[Tile::row(0)];
    const float high = memory.scales[Tile::row(2)];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (column(i) < value_size) {
        tiles[i].values[0] *= low;
        tiles[i].values[1] *= low;
        tiles[i].values[2] *= high;
        tiles[i].values[3] *= high;
        add_product(tiles[i], RowsOf<T>{memory.weights, PagedMemory<T>::kWeightStride},
                    ColumnsOf<T>{memory.values + column(i), memory.value_stride}, kPage);
      }
    }
  }
  // Calls store(query, column, sum).
  template <class Store>
  __device__ void for_each(int value_size, const Store& store) const {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (column(i) + Tile::column(j) < value_size) {
          store(Tile::row(j), column(i) + Tile::column(j), tiles[i].values[j]);
        }
      }
    }
  }
};

template <class T>
__device__ void store_sums(const PagedMemory<T>& memory, const PagedInputs<T>& inputs,
                           const TileWork& work, const PagedSoftmax& softmax, const PagedSums& sums,
                           T* out, const PartialSums& partial) {
  const std::int64_t split_rows = std::int64_t{work.split} * inputs.spans.num_rows;
  if (threadIdx.x % kWarpSize == 0) {
#pragma unroll
    for (int i = 0; i < PagedSoftmax::kRows; ++i) {
      const QueryPlace<T> place(inputs, work, PagedSoftmax::row(i));
      memory.scales[PagedSoftmax::row(i)] = 1.0F / softmax.sum[i];
      if (inputs.num_splits > 1 && place.exists) {
        const std::int64_t at = (split_rows + place.row) * inputs.num_heads + place.head;
        partial.weights[at] = softmax.sum[i];
        partial.maxima[at] = softmax.maximum[i];
      }
    }
  }
  __syncthreads();
  sums.for_each(inputs.value_size, [&](int query, int column, float sum) {
    const QueryPlace<T> place(inputs, work, query);
    if (!place.exists) {
      return;
    }
    if (inputs.num_splits > 1) {
      partial.sums[((split_rows + place.row) * inputs.num_heads + place.head) * inputs.value_size +
                   column] = sum;
    } else {
      out[(std::int64_t{place.row} * inputs.num_heads + place.head) * inputs.value_size + column] =
          from_float<T>(sum * memory.scales[query]);
    }
  });
}

// One block a tile, group of heads and split. In bfloat16 two fit into a multiprocessor: one loads
// a page while the other computes.
template <class T, int N>
__global__ void __launch_bounds__(kPagedThreads, sizeof(T) == sizeof(__nv_bfloat16) ? 2 : 1)
    attend_to_pages(PagedInputs<T> inputs, const int2* tiles, T* out, PartialSums partial) {
  const int groups = inputs.head_groups();
  const int block = static_cast<int>(blockIdx.x);
  const int2 tile = tiles[block / inputs.num_splits / groups];
  if (tile.x < 0) {
    return;
  }
  TileWork work{};
  work.span = inputs.spans.spans[tile.x];
  work.first_token = tile.y;
  work.num_tokens = min(inputs.tokens_of_tile(), work.span.y - tile.y);
  work.first_head = block / inputs.num_splits % groups * inputs.heads_of_tile;
  work.split = block % inputs.num_splits;
  const PagedMemory<T> memory(SharedMemory(dynamic_shared()), inputs.layout, inputs.value_size);
  const int num_pages = (work.num_keys(work.num_tokens - 1) + kPage - 1) / kPage;
  const int pages_of_split = (num_pages + inputs.num_splits - 1) / inputs.num_splits;
  const int first_page = work.split * pages_of_split;
  const int end_page = min(num_pages, first_page + pages_of_split);
  if (first_page < end_page) {
    load_tile_queries<N>(memory, inputs, work);
  }
  PagedSoftmax softmax;
  PagedSums sums;
  for (int page = first_page; page < end_page; ++page) {
    load_page<N>(memory, inputs.layout, rows_of_page(inputs, work, page * kPage));
    wait_for_copies();
    if (page + 1 < end_page) {
      prefetch_page(inputs.layout, rows_of_page(inputs, work, (page + 1) * kPage));
    }
    __syncthreads();
    make_page_scores(memory, inputs, work, page * kPage);
    __syncthreads();
    softmax.add(memory);
    __syncthreads();
    sums.add(memory, inputs.value_size);
    __syncthreads();
  }
  store_sums(memory, inputs, work, softmax, sums, out, partial);
}

// out = sum over splits of exp(maximum - largest) sums / the same of weights; 0 for a query that no
// split has. A warp a query.
template <class T>
__global__ void __launch_bounds__(kPagedThreads)
    combine_splits(PartialSums partial, int num_splits, std::int64_t num_queries, int value_size,
                   T* out) {
  const std::int64_t query = std::int64_t{blockIdx.x} * kPagedWarps + threadIdx.x / kWarpSize;
  if (query >= num_queries) {
    return;
  }
  float largest = -INFINITY;
  for (int split = 0; split < num_splits; ++split) {
    if (partial.weights[split * num_queries + query] > 0.0F) {
      largest = Max::of(largest, partial.maxima[split * num_queries + query]);
    }
  }
  for (int column = static_cast<int>(threadIdx.x) % kWarpSize; column < value_size;
       column += kWarpSize) {
    float sum = 0.0F;
    float weight = 0.0F;
    for (int split = 0; split < num_splits; ++split) {
      const std::int64_t at = split * num_queries + query;
      if (partial.weights[at] > 0.0F) {
        const float share = __expf(partial.maxima[at] - largest);
        sum += share * partial.sums[at * value_size + column];
        weight += share * partial.weights[at];
      }
    }
    out[query * value_size + column] = from_float<T>(weight > 0.0F ? sum / weight : 0.0F);
  }
}

// Splits that give each multiprocessor of an H100 up to two blocks, none shorter than an average
// sequence's page.
inline int num_splits_for(std::int64_t num_blocks, const PagedSequences& sequences) {
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
  constexpr int kMostShared = 227 << 10;
  const PagedMemory<T> memory(SharedMemory(nullptr), inputs.layout, inputs.value_size);
  FATHOM_CHECK(memory.size <= kMostShared && inputs.value_size <= kMaxPagedValue,
               "attention to pages on CUDA takes no keys of ", inputs.layout.key_size, " + ",
               inputs.layout.rope_size, " and values of ", inputs.value_size, " numbers");
  const std::int64_t num_rows = out.size(0);
  const std::int64_t num_queries = num_rows * inputs.num_heads;
  const int tokens_of_tile = kQueriesOfTile / inputs.heads_of_tile;
  // At most: a tile has a token, and all but a sequence's last are full.
  const std::int64_t num_tiles =
      std::min(num_rows, sequences.spans.size(0) + num_rows / tokens_of_tile);
  if (num_tiles == 0) {  // no spans: a split walk over nothing would leave rows unwritten
    stream.queue()->fill_zero(out.raw(), out.size_bytes());
    return;
  }
  const std::int64_t num_blocks = num_tiles * blocks_for(inputs.num_heads, inputs.heads_of_tile);
  inputs.num_splits = num_splits_for(num_blocks, sequences);
  if (inputs.num_splits == 1) {
    stream.queue()->fill_zero(out.raw(), out.size_bytes());
  }
  Tensor tiles = Tensor::empty({num_tiles, 2}, DType::kInt32, stream);
  auto* const tile_data = reinterpret_cast<int2*>(tiles.raw());
  launch(plan_tiles, {1, kWarpSize}, stream, inputs.spans, tokens_of_tile, num_tiles, tile_data);
  PartialMemory partial(inputs.num_splits, num_queries, inputs.value_size, stream);
  launch(attend_to_pages<T, N>, {num_blocks * inputs.num_splits, kPagedThreads, memory.size},
         stream, inputs, tile_data, device_data<T>(out), partial.pointers());
  if (inputs.num_splits > 1) {
    launch(combine_splits<T>, {blocks_for(num_queries, kPagedWarps), kPagedThreads}, stream,
           partial.pointers(), inputs.num_splits, num_queries, inputs.value_size,
           device_data<T>(out));
  }
}

}  // namespace fathom::kernels::cuda
