#pragma once

#include "kernels/cuda/shared_memory.cuh"
#include "kernels/cuda/tile_plan.cuh"
#include "kernels/cuda/warp_product.cuh"

namespace fathom::kernels::cuda {

// Attention of tiles of queries to the keys of their sequences: the online softmax of
// FlashAttention-2 (arXiv:2307.08691) over blocks of 64 keys, counted from the sequence's first
// token, with products of bfloat16 on the tensor cores, for which the probabilities are rounded.
//
// A block of threads has 16 kRowTiles queries that see the same keys up to their own places: heads
// of one token where all heads share the keys, else tokens of one head. `Keys` says where the keys
// are. A row takes the same operations in the same order whatever kRowTiles, its place in the tile
// and the Keys: with one split, training, which has many queries for a block of keys, and decoding,
// which has one, give it the same bits. What a query does not see is multiplied by 0.
inline constexpr int kAttentionThreads = 256;
inline constexpr int kAttentionWarps = kAttentionThreads / kWarpSize;
inline constexpr int kKeyBlock = static_cast<int>(kPageTokens);
inline constexpr int kMostShared = 227 << 10;
// Columns of values: the sums are kept in registers.
template <int kRowTiles>
inline constexpr int kMaxValue = kRowTiles == 1 ? 512 : 256;

struct KeySizes {
  int key;
  int rope;   // behind it
  int value;  // 0: the values are the keys
};

// A block of keys and values for one head, those that are there.
template <class T>
struct KeyRows {
  DeviceRows<T> keys, rope, values;
};

// Keys::rows(span, first_key, num_keys, head) -> KeyRows; kAreContiguous: rows lie back to back.
template <class T, class Keys>
struct AttentionTiles {
  // A query is [keys' part | rotated part].
  const T* queries;
  const T* rope;
  int query_row, query_head;  // strides of rows and heads
  int rope_row, rope_head;
  Keys keys;
  KeySizes sizes;
  const int4* spans;
  int num_rows;
  int num_heads;      // of the queries
  int heads_of_tile;  // 1: tiles of tokens
  int value_size;     // of the output
  int num_splits;
  float scale;

  __device__ int head_groups() const { return (num_heads + heads_of_tile - 1) / heads_of_tile; }
};

// Sums of one split: of exponentials times values, not yet divided; of exponentials; the maximum.
struct PartialSums {
  float* sums;     // [split, row, head, value_size]
  float* weights;  // [split, row, head]; 0 where a split has no key for a query
  float* maxima;   // [split, row, head]
};

template <class T>
struct AttentionResult {
  T* out;               // [row, head, value_size], for one split
  float* lse;           // [row, head], for one split; may be null
  PartialSums partial;  // for more
};

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

template <class T, int kRowTiles>
struct TileMemory {
  __host__ __device__ TileMemory(SharedMemory memory, const KeySizes& sizes, int value_size)
      : key_columns(padded_to_steps(sizes.key)),
        columns(key_columns + padded_to_steps(sizes.rope)),
        stride(shared_stride<T>(columns)),
        value_stride(sizes.value == 0 ? stride : shared_stride<T>(value_size)),
        queries(memory.take<T>(kQueries * stride)),
        keys(memory.take<T>(kKeyBlock * stride)),
        values(sizes.value == 0 ? keys : memory.take<T>(kKeyBlock * value_stride)),
        weights(memory.take<T>(kQueries * kWeightStride)),
        scores(memory.take<float>(kQueries * kScoreStride)),
        scales(memory.take<float>(kQueries)),
        size(memory.used()) {}

  static constexpr int kQueries = kRowTiles * Tile::kRows;
  static constexpr int kWeightStride = shared_stride<T>(kKeyBlock);
  static constexpr int kScoreStride = kKeyBlock + 1;
  int key_columns;
  int columns;
  int stride;
  int value_stride;
  T* queries;
  T* keys;
  T* values;
  T* weights;     // exp(score - maximum), rounded
  float* scores;  // times the scale
  float* scales;  // of the sums so far; at the end 1 / sum
  int size;
};

// Query r of a tile: token r / heads_of_tile, head r % heads_of_tile.
struct QueryPlace {
  template <class T, class Keys>
  __device__ QueryPlace(const AttentionTiles<T, Keys>& inputs, const TileWork& work, int query)
      : token(query / inputs.heads_of_tile),
        row(work.span.x + work.first_token + token),
        head(work.first_head + query % inputs.heads_of_tile),
        exists(token < work.num_tokens && head < inputs.num_heads) {}
  int token;
  int row;
  int head;
  bool exists;
};

template <int N, int kRowTiles, class T, class Keys>
__device__ void load_tile_queries(const TileMemory<T, kRowTiles>& memory,
                                  const AttentionTiles<T, Keys>& inputs, const TileWork& work) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int query = warp; query < memory.kQueries; query += kAttentionWarps) {
    const QueryPlace place(inputs, work, query);
    const int count = place.exists ? 1 : 0;
    const T* const keys_part = inputs.queries + std::int64_t{place.row} * inputs.query_row +
                               place.head * inputs.query_head;
    const T* const rope_part =
        inputs.rope + std::int64_t{place.row} * inputs.rope_row + place.head * inputs.rope_head;
    T* const to = memory.queries + query * memory.stride;
    load_row<N>(keys_part, count * inputs.sizes.key, memory.key_columns, to);
    load_row<N>(rope_part, count * inputs.sizes.rope, memory.columns - memory.key_columns,
                to + memory.key_columns);
  }
}

// The keys from first_key on that some query of the tile sees.
template <class T, class Keys>
__device__ KeyRows<T> key_rows(const AttentionTiles<T, Keys>& inputs, const TileWork& work,
                               int first_key) {
  const int num_keys = min(kKeyBlock, work.num_keys(work.num_tokens - 1) - first_key);
  return inputs.keys.rows(work.span, first_key, num_keys, work.first_head);
}

// What is not there is 0.
template <int N, int kRowTiles, class T>
__device__ void load_keys(const TileMemory<T, kRowTiles>& memory, const KeySizes& sizes,
                          const KeyRows<T>& rows) {
  load_rows<N>(rows.keys, sizes.key, memory.key_columns, kKeyBlock, memory.keys, memory.stride);
  load_rows<N>(rows.rope, sizes.rope, memory.columns - memory.key_columns, kKeyBlock,
               memory.keys + memory.key_columns, memory.stride);
  if (sizes.value > 0) {
    load_rows<N>(rows.values, sizes.value, padded_to_steps(sizes.value), kKeyBlock, memory.values,
                 memory.value_stride);
  }
}
template <class T>
__device__ void prefetch_keys(const KeySizes& sizes, const KeyRows<T>& rows) {
  prefetch_rows(rows.keys);
  prefetch_rows(rows.rope);
  if (sizes.value > 0) {
    prefetch_rows(rows.values);
  }
}

// Each warp makes the scores of 8 keys; -inf for keys that a query does not see.
template <int kRowTiles, class T, class Keys>
__device__ void make_scores(const TileMemory<T, kRowTiles>& memory,
                            const AttentionTiles<T, Keys>& inputs, const TileWork& work,
                            int first_key) {
  const int column = static_cast<int>(threadIdx.x) / kWarpSize * Tile::kColumns;
  Tile tiles[1][kRowTiles];
  add_product(tiles, RowsOf<T>{memory.queries, memory.stride},
              RowsOf<T>{memory.keys + column * memory.stride, memory.stride}, memory.columns);
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = r * Tile::kRows + Tile::row(i);
      const int key = column + Tile::column(i);
      const QueryPlace place(inputs, work, query);
      const bool is_seen = place.exists && first_key + key < work.num_keys(place.token);
      memory.scores[query * memory.kScoreStride + key] =
          is_seen ? tiles[0][r].values[i] * inputs.scale : -INFINITY;
    }
  }
}

// Maximum and sum of exponentials of a warp's queries, in all of its lanes. A key that a query does
// not see leaves both as they are.
template <int kRowTiles>
struct TileSoftmax {
  static constexpr int kRows = kRowTiles * Tile::kRows / kAttentionWarps;
  float maximum[kRows];
  float sum[kRows];

  __device__ TileSoftmax() {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      maximum[i] = -INFINITY;
      sum[i] = 0.0F;
    }
  }
  __device__ static int row(int i) { return static_cast<int>(threadIdx.x) / kWarpSize * kRows + i; }

  template <class T>
  __device__ void add(const TileMemory<T, kRowTiles>& memory) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float* const scores = memory.scores + row(i) * memory.kScoreStride;
      const float low = scores[lane];
      const float high = scores[lane + kWarpSize];
      const float largest = Max::of(maximum[i], reduce_warp<Max>(Max::of(low, high)));
      const float low_weight = low == -INFINITY ? 0.0F : __expf(low - largest);
      const float high_weight = high == -INFINITY ? 0.0F : __expf(high - largest);
      const float scale = maximum[i] == -INFINITY ? 0.0F : __expf(maximum[i] - largest);
      sum[i] = __fmaf_rn(sum[i], scale, reduce_warp<Sum>(low_weight + high_weight));
      maximum[i] = largest;
      T* const weights = memory.weights + row(i) * memory.kWeightStride;
      weights[lane] = from_float<T>(low_weight);
      weights[lane + kWarpSize] = from_float<T>(high_weight);
      if (lane == 0) {
        memory.scales[row(i)] = scale;
      }
    }
  }
};

// The sums of a tile's queries: warp w has the columns 8 (w + 8 i).
template <int kRowTiles>
struct TileSums {
  static constexpr int kDistance = kAttentionWarps * Tile::kColumns;
  static constexpr int kTiles = kMaxValue<kRowTiles> / kDistance;
  __device__ static int first_column() {
    return static_cast<int>(threadIdx.x) / kWarpSize * Tile::kColumns;
  }
  Tile tiles[kTiles][kRowTiles];

  template <class T>
  __device__ void add(const TileMemory<T, kRowTiles>& memory, int value_size) {
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      const float low = memory.scales[r * Tile::kRows + Tile::row(0)];
      const float high = memory.scales[r * Tile::kRows + Tile::row(2)];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        if (first_column() + i * kDistance < value_size) {
          tiles[i][r].values[0] *= low;
          tiles[i][r].values[1] *= low;
          tiles[i][r].values[2] *= high;
          tiles[i][r].values[3] *= high;
        }
      }
    }
    add_products(tiles, RowsOf<T>{memory.weights, memory.kWeightStride},
                 ColumnsOf<T>{memory.values + first_column(), memory.value_stride}, kDistance,
                 value_size - first_column(), kKeyBlock);
  }
  // Calls store(query, column, sum).
  template <class Store>
  __device__ void for_each(int value_size, const Store& store) const {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int column = first_column() + i * kDistance + Tile::column(j);
          if (column < value_size) {
            store(r * Tile::kRows + Tile::row(j), column, tiles[i][r].values[j]);
          }
        }
      }
    }
  }
};

// What the softmax knows of the queries; the factors of the sums for store_sums.
template <int kRowTiles, class T, class Keys>
__device__ void store_softmax(const TileMemory<T, kRowTiles>& memory,
                              const AttentionTiles<T, Keys>& inputs, const TileWork& work,
                              const TileSoftmax<kRowTiles>& softmax,
                              const AttentionResult<T>& result) {
  if (threadIdx.x % kWarpSize != 0) {
    return;
  }
#pragma unroll
  for (int i = 0; i < softmax.kRows; ++i) {
    const QueryPlace place(inputs, work, softmax.row(i));
    const std::int64_t at = std::int64_t{place.row} * inputs.num_heads + place.head;
    memory.scales[softmax.row(i)] = 1.0F / softmax.sum[i];
    if (!place.exists) {
      continue;
    }
    if (inputs.num_splits > 1) {
      const std::int64_t first = std::int64_t{work.split} * inputs.num_rows * inputs.num_heads;
      result.partial.weights[first + at] = softmax.sum[i];
      result.partial.maxima[first + at] = softmax.maximum[i];
    } else if (result.lse != nullptr) {
      result.lse[at] = softmax.maximum[i] + logf(softmax.sum[i]);
    }
  }
}

template <int kRowTiles, class T, class Keys>
__device__ void store_sums(const TileMemory<T, kRowTiles>& memory,
                           const AttentionTiles<T, Keys>& inputs, const TileWork& work,
                           const TileSums<kRowTiles>& sums, const AttentionResult<T>& result) {
  const std::int64_t split_rows = std::int64_t{work.split} * inputs.num_rows;
  sums.for_each(inputs.value_size, [&](int query, int column, float sum) {
    const QueryPlace place(inputs, work, query);
    if (!place.exists) {
      return;
    }
    if (inputs.num_splits > 1) {
      result.partial
          .sums[((split_rows + place.row) * inputs.num_heads + place.head) * inputs.value_size +
                column] = sum;
    } else {
      // + 0: a sum of -0 may have become +0 by keys that the query does not see, so it always does.
      result.out[(std::int64_t{place.row} * inputs.num_heads + place.head) * inputs.value_size +
                 column] = from_float<T>(__fmaf_rn(sum, memory.scales[query], 0.0F));
    }
  });
}

// The work of this block of threads; without tokens where it has none. The last tiles come first:
// they have most keys.
template <int kRowTiles, class T, class Keys>
__device__ TileWork work_of_block(const AttentionTiles<T, Keys>& inputs, const int2* tiles) {
  const int groups = inputs.head_groups();
  const int block = static_cast<int>(gridDim.x - 1 - blockIdx.x);
  const int2 tile = tiles[block / inputs.num_splits / groups];
  TileWork work{};
  if (tile.x >= 0) {
    work.span = inputs.spans[tile.x];
    work.first_token = tile.y;
    work.num_tokens =
        min(kRowTiles * Tile::kRows / inputs.heads_of_tile, work.span.y - work.first_token);
    work.first_head = block / inputs.num_splits % groups * inputs.heads_of_tile;
    work.split = block % inputs.num_splits;
  }
  return work;
}

// One block a tile, group of heads and split. In bfloat16 two fit into a multiprocessor: one loads
// keys while the other computes.
template <class T, int N, int kRowTiles, class Keys>
__global__ void __launch_bounds__(kAttentionThreads, sizeof(T) == sizeof(__nv_bfloat16) ? 2 : 1)
    attend_tiles(AttentionTiles<T, Keys> inputs, const int2* tiles, AttentionResult<T> result) {
  const TileWork work = work_of_block<kRowTiles>(inputs, tiles);
  if (work.num_tokens == 0) {
    return;
  }
  const TileMemory<T, kRowTiles> memory(SharedMemory(dynamic_shared()), inputs.sizes,
                                        inputs.value_size);
  const int num_blocks = (work.num_keys(work.num_tokens - 1) + kKeyBlock - 1) / kKeyBlock;
  const int blocks_of_split = (num_blocks + inputs.num_splits - 1) / inputs.num_splits;
  const int first_block = work.split * blocks_of_split;
  const int end_block = min(num_blocks, first_block + blocks_of_split);
  if (first_block < end_block) {
    load_tile_queries<N>(memory, inputs, work);
  }
  TileSoftmax<kRowTiles> softmax;
  TileSums<kRowTiles> sums;
  for (int block = first_block; block < end_block; ++block) {
    load_keys<N>(memory, inputs.sizes, key_rows(inputs, work, block * kKeyBlock));
    wait_for_copies();
    if constexpr (Keys::kAreContiguous) {
      if (block + 1 < end_block) {
        prefetch_keys(inputs.sizes, key_rows(inputs, work, (block + 1) * kKeyBlock));
      }
    }
    __syncthreads();
    make_scores(memory, inputs, work, block * kKeyBlock);
    __syncthreads();
    softmax.add(memory);
    __syncthreads();
    sums.add(memory, inputs.value_size);
    __syncthreads();
  }
  store_softmax(memory, inputs, work, softmax, result);
  __syncthreads();
  store_sums(memory, inputs, work, sums, result);
}

}  // namespace fathom::kernels::cuda
