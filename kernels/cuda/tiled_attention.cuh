#pragma once

#include <cmath>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/expanded_attention.h"
#include "kernels/cuda/shared_memory.cuh"
#include "kernels/cuda/warp_product.cuh"

namespace fathom::kernels::cuda {

// What the forward and the backward of kernels/cuda/expanded_attention.h share. A block works on 32
// queries or 32 keys of one head, counted from the first token of all: a tile may span segments.
inline constexpr int kTileTokens = 32;
inline constexpr int kTiledThreads = 256;
inline constexpr int kTiledWarps = kTiledThreads / kWarpSize;
// A row of scores, of the activation's type, is a factor of a product.
template <class T>
inline constexpr int kScoreStride = shared_stride<T>(kTileTokens);

template <class T>
struct TiledInputs {
  const T* q;
  const T* keys;
  const T* values;  // of the first token's first head
  const std::int32_t* segments;
  int num_segments;
  int num_tokens;
  int num_heads;
  int key_size;
  int value_size;
  int value_head_stride;  // elements from a head's values to the next one's
  float scale;

  __device__ std::int64_t key_row() const { return std::int64_t{num_heads} * key_size; }
  __device__ std::int64_t value_row() const { return std::int64_t{num_heads} * value_head_stride; }
  __device__ std::int64_t out_row() const { return std::int64_t{num_heads} * value_size; }
  __device__ int rows_from(int token) const { return min(kTileTokens, num_tokens - token); }
  __device__ DeviceRows<T> query_rows(int token, int head) const {
    return {q + token * key_row() + std::int64_t{head} * key_size, key_row(), rows_from(token)};
  }
  __device__ DeviceRows<T> key_rows(int token, int head) const {
    return {keys + token * key_row() + std::int64_t{head} * key_size, key_row(), rows_from(token)};
  }
  __device__ DeviceRows<T> value_rows(int token, int head) const {
    return {values + token * value_row() + std::int64_t{head} * value_head_stride, value_row(),
            rows_from(token)};
  }
  // Of a tensor like `out`.
  __device__ DeviceRows<T> out_rows(const T* out, int token, int head) const {
    return {out + token * out_row() + std::int64_t{head} * value_size, out_row(), rows_from(token)};
  }
};

template <class T>
TiledInputs<T> tiled_inputs(const ExpandedAttention& attention) {
  const AttentionShape& shape = attention.shape;
  return {.q = device_data<T>(attention.q),
          .keys = device_data<T>(attention.keys),
          .values = device_data<T>(attention.kv) + shape.nope_size,
          .segments = device_data<std::int32_t>(attention.segments),
          .num_segments = static_cast<int>(attention.num_segments()),
          .num_tokens = static_cast<int>(attention.num_tokens()),
          .num_heads = shape.num_heads,
          .key_size = attention.key_size(),
          .value_size = shape.value_size,
          .value_head_stride = shape.nope_size + shape.value_size,
          .scale = shape.scale};
}

// The segment that a token is in: its first token and the first one after it.
struct SegmentBounds {
  int begin;
  int end;
};
__device__ __forceinline__ SegmentBounds segment_of(const std::int32_t* segments, int num_segments,
                                                    int token) {
  int low = 0;
  int high = num_segments;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (segments[middle] <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return {segments[low], segments[high]};
}

// Whether all rows of the inputs can be read by 16-byte accesses.
template <class T>
bool rows_fit_packs(const ExpandedAttention& attention) {
  const AttentionShape& shape = attention.shape;
  return fits_packs<T>(attention.key_size(), {attention.q.raw(), attention.keys.raw()}) &&
         fits_packs<T>(shape.nope_size, {attention.kv.raw()}) &&
         fits_packs<T>(shape.value_size, {});
}

// The 16 x 8 tiles of 32 rows: warp w has those of rows 16 (w % 2) whose columns are 8 (w / 2 + 4
// i); i < kMaxTiles covers kMaxTiledSize columns.
struct WarpTiles {
  static constexpr int kMaxTiles = kMaxTiledSize / Tile::kColumns / (kTiledWarps / 2);
  __device__ static int first_row() {
    return static_cast<int>(threadIdx.x) / kWarpSize % 2 * Tile::kRows;
  }
  __device__ static int first_column(int i) {
    return (static_cast<int>(threadIdx.x) / kWarpSize / 2 + i * (kTiledWarps / 2)) * Tile::kColumns;
  }

  Tile tiles[kMaxTiles];

  // Adds a b^T, where `columns` are those of the sum.
  template <class A, class B>
  __device__ void add(const A& a, const B& b, int columns) {
#pragma unroll
    for (int i = 0; i < kMaxTiles; ++i) {
      if (first_column(i) < columns) {
        add_product(tiles[i], a, b.from(first_column(i)), kTileTokens);
      }
    }
  }
  // Rows beyond num_rows and columns beyond `columns` are left alone.
  template <class T>
  __device__ void store(T* to, std::int64_t stride, int num_rows, int columns) const {
#pragma unroll
    for (int i = 0; i < kMaxTiles; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = first_row() + Tile::row(j);
        const int column = first_column(i) + Tile::column(j);
        if (row < num_rows && column < columns) {
          to[row * stride + column] = from_float<T>(tiles[i].values[j]);
        }
      }
    }
  }
};

}  // namespace fathom::kernels::cuda
