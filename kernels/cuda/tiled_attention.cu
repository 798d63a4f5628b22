#include "kernels/cuda/tiled_attention.cuh"

namespace fathom::kernels::cuda {
namespace {

// Shared memory of a block of the forward.
template <class T>
struct ForwardMemory {
  __host__ __device__ ForwardMemory(SharedMemory memory, int key_size, int value_size)
      : key_stride(shared_stride<T>(key_size)),
        value_stride(shared_stride<T>(value_size)),
        queries(memory.take<T>(kTileTokens * key_stride)),
        keys(memory.take<T>(kTileTokens * key_stride)),
        values(memory.take<T>(kTileTokens * value_stride)),
        weights(memory.take<T>(kTileTokens * kScoreStride<T>)),
        scores(memory.take<float>(kTileTokens * (kTileTokens + 1))),
        scales(memory.take<float>(kTileTokens)),
        starts(memory.take<int>(kTileTokens)),
        size(memory.used()) {}

  int key_stride;
  int value_stride;
  T* queries;
  T* keys;
  T* values;
  T* weights;     // exp(score - maximum), rounded
  float* scores;  // [32, 33]
  float* scales;  // of the sums so far; at the end 1 / sum
  int* starts;    // first token of each query's segment
  int size;
};

// The maximum and the sum of exponentials of a query's scores; each warp has those of four queries,
// in all of its lanes.
struct OnlineSoftmax {
  static constexpr int kRows = kTileTokens / kTiledWarps;
  float maximum[kRows];
  float sum[kRows];

  __device__ OnlineSoftmax() {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      maximum[i] = -INFINITY;
      sum[i] = 0.0F;
    }
  }
  __device__ static int row(int i) { return static_cast<int>(threadIdx.x) / kWarpSize * kRows + i; }

  template <class T>
  __device__ void add(const ForwardMemory<T>& memory) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const float score = memory.scores[row(i) * (kTileTokens + 1) + lane];
      const float largest = Max::of(maximum[i], reduce_warp<Max>(score));
      const float weight = score == -INFINITY ? 0.0F : __expf(score - largest);
      const float scale = maximum[i] == -INFINITY ? 0.0F : __expf(maximum[i] - largest);
      sum[i] = sum[i] * scale + reduce_warp<Sum>(weight);
      maximum[i] = largest;
      memory.weights[row(i) * kScoreStride<T> + lane] = from_float<T>(weight);
      if (lane == 0) {
        memory.scales[row(i)] = scale;
      }
    }
  }
  template <class T>
  __device__ void finish(const ForwardMemory<T>& memory, const TiledInputs<T>& inputs, int token,
                         int head, float* lse) {
    if (threadIdx.x % kWarpSize != 0) {
      return;
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      memory.scales[row(i)] = 1.0F / sum[i];
      if (token + row(i) < inputs.num_tokens) {
        lse[std::int64_t{token + row(i)} * inputs.num_heads + head] = maximum[i] + logf(sum[i]);
      }
    }
  }
};

__device__ __forceinline__ void scale_rows(WarpTiles& sums, const float* scales) {
  const float low = scales[WarpTiles::first_row() + Tile::row(0)];
  const float high = scales[WarpTiles::first_row() + Tile::row(2)];
#pragma unroll
  for (Tile& tile : sums.tiles) {
    tile.values[0] *= low;
    tile.values[1] *= low;
    tile.values[2] *= high;
    tile.values[3] *= high;
  }
}

// Scores of the tile of keys from `first_key` on; -inf where a query does not see the key.
template <class T>
__device__ __forceinline__ void make_scores(const ForwardMemory<T>& memory,
                                            const TiledInputs<T>& inputs, int first_query,
                                            int first_key) {
  const int row = WarpTiles::first_row();
  const int column = WarpTiles::first_column(0);
  Tile tile;
  add_product(tile, RowsOf<T>{memory.queries + row * memory.key_stride, memory.key_stride},
              RowsOf<T>{memory.keys + column * memory.key_stride, memory.key_stride},
              padded_to_steps(inputs.key_size));
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int query = row + Tile::row(i);
    const int key = first_key + column + Tile::column(i);
    const bool is_seen = key <= first_query + query && key >= memory.starts[query];
    memory.scores[query * (kTileTokens + 1) + column + Tile::column(i)] =
        is_seen ? tile.values[i] * inputs.scale : -INFINITY;
  }
}

// One block a head and tile of queries; the tiles with most keys first.
template <class T, int N>
__global__ void __launch_bounds__(kTiledThreads, 1)
    forward(TiledInputs<T> inputs, T* out, float* lse, int num_tiles) {
  const int head = static_cast<int>(blockIdx.x) % inputs.num_heads;
  const int tile = num_tiles - 1 - static_cast<int>(blockIdx.x) / inputs.num_heads;
  const int first_query = tile * kTileTokens;
  const ForwardMemory<T> memory(SharedMemory(dynamic_shared()), inputs.key_size, inputs.value_size);
  const int key_columns = padded_to_steps(inputs.key_size);
  const int value_columns = padded_to_steps(inputs.value_size);
  if (threadIdx.x < kTileTokens) {
    const int token = min(first_query + static_cast<int>(threadIdx.x), inputs.num_tokens - 1);
    memory.starts[threadIdx.x] = segment_of(inputs.segments, inputs.num_segments, token).begin;
  }
  load_rows<N>(inputs.query_rows(first_query, head), inputs.key_size, key_columns, kTileTokens,
               memory.queries, memory.key_stride);
  __syncthreads();
  OnlineSoftmax softmax;
  WarpTiles sums;
  const int first_tile = memory.starts[0] / kTileTokens;  // no later query's segment begins before
  for (int first_key = first_tile * kTileTokens; first_key <= first_query;
       first_key += kTileTokens) {
    load_rows<N>(inputs.key_rows(first_key, head), inputs.key_size, key_columns, kTileTokens,
                 memory.keys, memory.key_stride);
    load_rows<N>(inputs.value_rows(first_key, head), inputs.value_size, value_columns, kTileTokens,
                 memory.values, memory.value_stride);
    wait_for_copies();
    __syncthreads();
    make_scores(memory, inputs, first_query, first_key);
    __syncthreads();
    softmax.add(memory);
    __syncthreads();
    scale_rows(sums, memory.scales);
    sums.add(RowsOf<T>{memory.weights + WarpTiles::first_row() * kScoreStride<T>, kScoreStride<T>},
             ColumnsOf<T>{memory.values, memory.value_stride}, value_columns);
    __syncthreads();
  }
  softmax.finish(memory, inputs, first_query, head, lse);
  __syncthreads();
  scale_rows(sums, memory.scales);
  sums.store(out + first_query * inputs.out_row() + std::int64_t{head} * inputs.value_size,
             inputs.out_row(), inputs.rows_from(first_query), inputs.value_size);
}

template <class T, int N>
void launch_forward(const ExpandedAttention& attention, Tensor& out, Tensor& lse, Stream& stream) {
  const std::int64_t num_tiles = blocks_for(attention.num_tokens(), kTileTokens);
  const ForwardMemory<T> memory(SharedMemory(nullptr), attention.key_size(),
                                attention.shape.value_size);
  launch(forward<T, N>, {num_tiles * attention.shape.num_heads, kTiledThreads, memory.size}, stream,
         tiled_inputs<T>(attention), device_data<T>(out), device_data<float>(lse), num_tiles);
}

}  // namespace

void tiled_attention_forward(const ExpandedAttention& attention, Tensor& out, Tensor& lse,
                             Stream& stream) {
  FATHOM_CHECK(attention.key_size() <= kMaxTiledSize && attention.shape.value_size <= kMaxTiledSize,
               "attention on CUDA has heads of up to ", kMaxTiledSize, " numbers, not ",
               attention.key_size(), " and ", attention.shape.value_size);
  with_activation_type(attention.q.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (rows_fit_packs<T>(attention)) {
      launch_forward<T, kPackSize<T>>(attention, out, lse, stream);
    } else {
      launch_forward<T, 1>(attention, out, lse, stream);
    }
  });
}

}  // namespace fathom::kernels::cuda
