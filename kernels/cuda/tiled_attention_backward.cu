#include "kernels/cuda/shared_memory.cuh"
#include "kernels/cuda/tile_plan.cuh"
#include "kernels/cuda/tiled_attention.h"
#include "kernels/cuda/warp_product.cuh"

namespace fathom::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
// A block works on a tile of queries or keys of one head, counted from their segment's first token:
// what fits into shared memory of queries, keys, values and gradients of the largest size.
template <class T>
constexpr int kRowTiles = sizeof(T) == sizeof(__nv_bfloat16) ? 4 : 2;
template <class T>
constexpr int kTile = kRowTiles<T> * Tile::kRows;

template <class T>
struct BackwardInputs {
  const T* q;
  const T* keys;
  const T* values;  // of the first token's first head
  const T* dout;
  const float* lse;
  const float* delta;  // sum over columns of dout * out
  const int4* segments;
  const int2* tiles;
  int num_heads;
  int key_size;
  int value_size;
  int value_head_stride;  // elements from a head's values to the next one's
  float scale;

  __device__ std::int64_t key_row() const { return std::int64_t{num_heads} * key_size; }
  __device__ std::int64_t value_row() const { return std::int64_t{num_heads} * value_head_stride; }
  __device__ std::int64_t out_row() const { return std::int64_t{num_heads} * value_size; }
};

// What a block works on: tokens of a head of a segment, whose tokens end at `end`.
struct BackwardWork {
  int head;
  int begin;  // of the segment
  int first;  // of the block
  int end;

  template <class T>
  __device__ static BackwardWork of(const BackwardInputs<T>& inputs, int block) {
    const int2 tile = inputs.tiles[block / inputs.num_heads];
    if (tile.x < 0) {
      return {};
    }
    const int4 segment = inputs.segments[tile.x];
    return {block % inputs.num_heads, segment.x, segment.x + tile.y, segment.x + segment.y};
  }
  __device__ bool is_empty() const { return first == end; }
  // Rows that begin at a token of the segment, `stride` elements from one token to the next.
  template <class T>
  __device__ DeviceRows<T> rows(const T* data, std::int64_t stride, int size, int token) const {
    return {data + token * stride + std::int64_t{head} * size, stride, min(kTile<T>, end - token)};
  }
};

// delta[row] = sum over columns of dout * out, a warp a row (one head of one token).
template <class T>
__global__ void __launch_bounds__(kThreads)
    multiply_rows(const T* dout, const T* out, float* delta, std::int64_t num_rows, int size) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float sum = 0.0F;
  if (row < num_rows) {
    for (int column = lane; column < size; column += kWarpSize) {
      sum += to_float(dout[row * size + column]) * to_float(out[row * size + column]);
    }
  }
  sum = reduce_warp<Sum>(sum);
  if (row < num_rows && lane == 0) {
    delta[row] = sum;
  }
}

// Shared memory of a block of both passes.
template <class T>
struct BackwardMemory {
  __host__ __device__ BackwardMemory(SharedMemory memory, int key_size, int value_size)
      : key_stride(shared_stride<T>(key_size)),
        value_stride(shared_stride<T>(value_size)),
        queries(memory.take<T>(kTile<T> * key_stride)),
        keys(memory.take<T>(kTile<T> * key_stride)),
        values(memory.take<T>(kTile<T> * value_stride)),
        dout(memory.take<T>(kTile<T> * value_stride)),
        weights(memory.take<T>(kTile<T> * kScoreStride)),
        dscores(memory.take<T>(kTile<T> * kScoreStride)),
        lse(memory.take<float>(kTile<T>)),
        delta(memory.take<float>(kTile<T>)),
        size(memory.used()) {}

  static constexpr int kScoreStride = shared_stride<T>(kTile<T>);
  int key_stride;
  int value_stride;
  T* queries;
  T* keys;
  T* values;
  T* dout;
  T* weights;  // [query, key]
  T* dscores;  // [query, key], times the scale
  float* lse;
  float* delta;
  int size;
};

template <int N, class T>
__device__ __forceinline__ void load_queries(const BackwardMemory<T>& memory,
                                             const BackwardInputs<T>& inputs,
                                             const BackwardWork& work, int first_query) {
  const int row = static_cast<int>(threadIdx.x);
  if (row < kTile<T>) {
    const std::int64_t token = min(first_query + row, work.end - 1);
    memory.lse[row] = inputs.lse[token * inputs.num_heads + work.head];
    memory.delta[row] = inputs.delta[token * inputs.num_heads + work.head];
  }
  load_rows<N>(work.rows(inputs.q, inputs.key_row(), inputs.key_size, first_query), inputs.key_size,
               padded_to_steps(inputs.key_size), kTile<T>, memory.queries, memory.key_stride);
  load_rows<N>(work.rows(inputs.dout, inputs.out_row(), inputs.value_size, first_query),
               inputs.value_size, padded_to_steps(inputs.value_size), kTile<T>, memory.dout,
               memory.value_stride);
}

template <int N, class T>
__device__ __forceinline__ void load_keys(const BackwardMemory<T>& memory,
                                          const BackwardInputs<T>& inputs, const BackwardWork& work,
                                          int first_key) {
  load_rows<N>(work.rows(inputs.keys, inputs.key_row(), inputs.key_size, first_key),
               inputs.key_size, padded_to_steps(inputs.key_size), kTile<T>, memory.keys,
               memory.key_stride);
  load_rows<N>(work.rows(inputs.values, inputs.value_row(), inputs.value_head_stride, first_key),
               inputs.value_size, padded_to_steps(inputs.value_size), kTile<T>, memory.values,
               memory.value_stride);
}

// weights = exp(score - lse), dscores = weights (dout . value - delta) scale; 0 where a query does
// not see the key. Each warp makes those of 8 keys.
template <class T>
__device__ __forceinline__ void differentiate(const BackwardMemory<T>& memory,
                                              const BackwardInputs<T>& inputs,
                                              const BackwardWork& work, int first_query,
                                              int first_key) {
  const int column = static_cast<int>(threadIdx.x) / kWarpSize * Tile::kColumns;
  if (column >= kTile<T>) {
    return;
  }
  Tile scores[1][kRowTiles<T>];
  add_product(scores, RowsOf<T>{memory.queries, memory.key_stride},
              RowsOf<T>{memory.keys + column * memory.key_stride, memory.key_stride},
              padded_to_steps(inputs.key_size));
  Tile dweights[1][kRowTiles<T>];
  add_product(dweights, RowsOf<T>{memory.dout, memory.value_stride},
              RowsOf<T>{memory.values + column * memory.value_stride, memory.value_stride},
              padded_to_steps(inputs.value_size));
#pragma unroll
  for (int r = 0; r < kRowTiles<T>; ++r) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int query = r * Tile::kRows + Tile::row(i);
      const int key = column + Tile::column(i);
      const bool is_seen = first_key + key <= first_query + query && first_query + query < work.end;
      const float score = __fmaf_rn(scores[0][r].values[i], inputs.scale, -memory.lse[query]);
      const float weight = is_seen ? __expf(score) : 0.0F;
      const float dscore =
          is_seen ? weight * (dweights[0][r].values[i] - memory.delta[query]) * inputs.scale : 0.0F;
      memory.weights[query * memory.kScoreStride + key] = from_float<T>(weight);
      memory.dscores[query * memory.kScoreStride + key] = from_float<T>(dscore);
    }
  }
}

// Sums over the rows of a tile: warp w has the columns 8 (w + 8 i).
template <class T>
struct GradientSums {
  static constexpr int kDistance = kWarps * Tile::kColumns;
  __device__ static int first_column() {
    return static_cast<int>(threadIdx.x) / kWarpSize * Tile::kColumns;
  }
  Tile tiles[kMaxTiledSize / kDistance][kRowTiles<T>];

  // Adds a b^T, where `columns` are those of the sum.
  template <bool kByOuter>
  __device__ void add(const Factor<T, kByOuter>& a, const ColumnsOf<T>& b, int columns) {
    add_products(tiles, a, b.from(first_column()), kDistance, columns - first_column(), kTile<T>);
  }
  // Rows beyond num_rows and columns beyond `columns` are left alone.
  __device__ void store(T* to, std::int64_t stride, int num_rows, int columns) const {
#pragma unroll
    for (int i = 0; i < kMaxTiledSize / kDistance; ++i) {
#pragma unroll
      for (int r = 0; r < kRowTiles<T>; ++r) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int row = r * Tile::kRows + Tile::row(j);
          const int column = first_column() + i * kDistance + Tile::column(j);
          if (row < num_rows && column < columns) {
            to[row * stride + column] = from_float<T>(tiles[i][r].values[j]);
          }
        }
      }
    }
  }
};

// One block a head and tile of keys: over the tiles of queries in ascending order. The first tiles
// have most.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 1)
    key_gradients(BackwardInputs<T> inputs, T* dkeys, T* dvalues) {
  const BackwardWork work = BackwardWork::of(inputs, static_cast<int>(blockIdx.x));
  if (work.is_empty()) {
    return;
  }
  const BackwardMemory<T> memory(SharedMemory(dynamic_shared()), inputs.key_size,
                                 inputs.value_size);
  load_keys<N>(memory, inputs, work, work.first);
  GradientSums<T> key_sums;
  GradientSums<T> value_sums;
  for (int query = work.first; query < work.end; query += kTile<T>) {
    load_queries<N>(memory, inputs, work, query);
    wait_for_copies();
    __syncthreads();
    differentiate(memory, inputs, work, query, work.first);
    __syncthreads();
    value_sums.add(ColumnsOf<T>{memory.weights, memory.kScoreStride},
                   ColumnsOf<T>{memory.dout, memory.value_stride}, inputs.value_size);
    key_sums.add(ColumnsOf<T>{memory.dscores, memory.kScoreStride},
                 ColumnsOf<T>{memory.queries, memory.key_stride}, inputs.key_size);
    __syncthreads();
  }
  const int num_rows = min(kTile<T>, work.end - work.first);
  key_sums.store(dkeys + work.first * inputs.key_row() + std::int64_t{work.head} * inputs.key_size,
                 inputs.key_row(), num_rows, inputs.key_size);
  value_sums.store(dvalues + work.first * inputs.value_row() +
                       std::int64_t{work.head} * inputs.value_head_stride,
                   inputs.value_row(), num_rows, inputs.value_size);
}

// One block a head and tile of queries: over the tiles of keys in ascending order. The last tiles
// have most.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 1) query_gradients(BackwardInputs<T> inputs, T* dq) {
  const BackwardWork work = BackwardWork::of(inputs, static_cast<int>(gridDim.x - 1 - blockIdx.x));
  if (work.is_empty()) {
    return;
  }
  const BackwardMemory<T> memory(SharedMemory(dynamic_shared()), inputs.key_size,
                                 inputs.value_size);
  load_queries<N>(memory, inputs, work, work.first);
  GradientSums<T> sums;
  for (int key = work.begin; key <= work.first; key += kTile<T>) {
    load_keys<N>(memory, inputs, work, key);
    wait_for_copies();
    __syncthreads();
    differentiate(memory, inputs, work, work.first, key);
    __syncthreads();
    sums.add(RowsOf<T>{memory.dscores, memory.kScoreStride},
             ColumnsOf<T>{memory.keys, memory.key_stride}, inputs.key_size);
    __syncthreads();
  }
  sums.store(dq + work.first * inputs.key_row() + std::int64_t{work.head} * inputs.key_size,
             inputs.key_row(), min(kTile<T>, work.end - work.first), inputs.key_size);
}

template <class T, int N>
void launch_backward(const BackwardInputs<T>& inputs, std::int64_t num_tiles,
                     const ExpandedGradients& gradients, Stream& stream) {
  const BackwardMemory<T> memory(SharedMemory(nullptr), inputs.key_size, inputs.value_size);
  const LaunchShape shape{num_tiles * inputs.num_heads, kThreads, memory.size};
  launch(key_gradients<T, N>, shape, stream, inputs, device_data<T>(gradients.dkeys),
         device_data<T>(gradients.dkv) + inputs.value_head_stride - inputs.value_size);
  launch(query_gradients<T, N>, shape, stream, inputs, device_data<T>(gradients.dq));
}

// Whether all rows of the inputs can be read by 16-byte accesses.
template <class T>
bool rows_fit_packs(const ExpandedAttention& attention, const Tensor& dout) {
  const AttentionShape& shape = attention.shape;
  return fits_packs<T>(attention.key_size(), {attention.q.raw(), attention.keys.raw()}) &&
         fits_packs<T>(shape.nope_size, {attention.kv.raw()}) &&
         fits_packs<T>(shape.value_size, {dout.raw()});
}

}  // namespace

void tiled_attention_backward(const ExpandedAttention& attention, const ExpandedResult& result,
                              const Tensor& dout, const ExpandedGradients& gradients,
                              Stream& stream) {
  const AttentionShape& shape = attention.shape;
  Tensor delta = Tensor::empty(result.lse.shape(), DType::kFloat32, stream);
  with_activation_type(attention.q.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(multiply_rows<T>, {blocks_for(delta.numel(), kWarps), kThreads}, stream,
           device_data<T>(dout), device_data<T>(result.out), device_data<float>(delta),
           delta.numel(), shape.value_size);
    const SegmentTiles segments(attention.segments, attention.num_tokens(), kTile<T>, stream);
    const BackwardInputs<T> inputs{.q = device_data<T>(attention.q),
                                   .keys = device_data<T>(attention.keys),
                                   .values = device_data<T>(attention.kv) + shape.nope_size,
                                   .dout = device_data<T>(dout),
                                   .lse = device_data<float>(result.lse),
                                   .delta = device_data<float>(delta),
                                   .segments = segments.spans.spans,
                                   .tiles = segments.plan.data(),
                                   .num_heads = shape.num_heads,
                                   .key_size = attention.key_size(),
                                   .value_size = shape.value_size,
                                   .value_head_stride = shape.nope_size + shape.value_size,
                                   .scale = shape.scale};
    if (rows_fit_packs<T>(attention, dout)) {
      launch_backward<T, kPackSize<T>>(inputs, segments.plan.num_tiles, gradients, stream);
    } else {
      launch_backward<T, 1>(inputs, segments.plan.num_tiles, gradients, stream);
    }
  });
}

}  // namespace fathom::kernels::cuda
