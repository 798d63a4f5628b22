#include "kernels/cuda/tiled_attention.cuh"

namespace fathom::kernels::cuda {
namespace {

// What the gradients of the scores are made of besides the inputs.
template <class T>
struct OutputGradients {
  const T* dout;
  const float* lse;
  const float* delta;  // sum over columns of dout * out
};

// delta[row] = sum over columns of dout * out, a warp a row (one head of one token).
template <class T>
__global__ void __launch_bounds__(kTiledThreads)
    multiply_rows(const T* dout, const T* out, float* delta, std::int64_t num_rows, int size) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kTiledWarps + threadIdx.x / kWarpSize;
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
        queries(memory.take<T>(kTileTokens * key_stride)),
        keys(memory.take<T>(kTileTokens * key_stride)),
        values(memory.take<T>(kTileTokens * value_stride)),
        dout(memory.take<T>(kTileTokens * value_stride)),
        weights(memory.take<T>(kTileTokens * kScoreStride<T>)),
        dscores(memory.take<T>(kTileTokens * kScoreStride<T>)),
        lse(memory.take<float>(kTileTokens)),
        delta(memory.take<float>(kTileTokens)),
        starts(memory.take<int>(kTileTokens)),
        size(memory.used()) {}

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
  int* starts;
  int size;
};

template <class T, int N>
__device__ __forceinline__ void load_queries(const BackwardMemory<T>& memory,
                                             const TiledInputs<T>& inputs,
                                             const OutputGradients<T>& given, int first_query,
                                             int head) {
  if (threadIdx.x < kTileTokens) {
    const int token = min(first_query + static_cast<int>(threadIdx.x), inputs.num_tokens - 1);
    memory.starts[threadIdx.x] = segment_of(inputs.segments, inputs.num_segments, token).begin;
    memory.lse[threadIdx.x] = given.lse[std::int64_t{token} * inputs.num_heads + head];
    memory.delta[threadIdx.x] = given.delta[std::int64_t{token} * inputs.num_heads + head];
  }
  load_rows<N>(inputs.query_rows(first_query, head), inputs.key_size,
               padded_to_steps(inputs.key_size), kTileTokens, memory.queries, memory.key_stride);
  load_rows<N>(inputs.out_rows(given.dout, first_query, head), inputs.value_size,
               padded_to_steps(inputs.value_size), kTileTokens, memory.dout, memory.value_stride);
}

template <class T, int N>
__device__ __forceinline__ void load_keys(const BackwardMemory<T>& memory,
                                          const TiledInputs<T>& inputs, int first_key, int head) {
  load_rows<N>(inputs.key_rows(first_key, head), inputs.key_size, padded_to_steps(inputs.key_size),
               kTileTokens, memory.keys, memory.key_stride);
  load_rows<N>(inputs.value_rows(first_key, head), inputs.value_size,
               padded_to_steps(inputs.value_size), kTileTokens, memory.values, memory.value_stride);
}

// weights = exp(score - lse), dscores = weights (dout . value - delta) scale; 0 where a query does
// not see the key.
template <class T>
__device__ __forceinline__ void differentiate(const BackwardMemory<T>& memory,
                                              const TiledInputs<T>& inputs, int first_query,
                                              int first_key) {
  const int row = WarpTiles::first_row();
  const int column = WarpTiles::first_column(0);
  Tile scores;
  add_product(scores, RowsOf<T>{memory.queries + row * memory.key_stride, memory.key_stride},
              RowsOf<T>{memory.keys + column * memory.key_stride, memory.key_stride},
              padded_to_steps(inputs.key_size));
  Tile dweights;
  add_product(dweights, RowsOf<T>{memory.dout + row * memory.value_stride, memory.value_stride},
              RowsOf<T>{memory.values + column * memory.value_stride, memory.value_stride},
              padded_to_steps(inputs.value_size));
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int query = row + Tile::row(i);
    const int key = column + Tile::column(i);
    const bool is_seen = first_key + key <= first_query + query &&
                         first_key + key >= memory.starts[query] &&
                         first_query + query < inputs.num_tokens;
    const float weight =
        is_seen ? __expf(scores.values[i] * inputs.scale - memory.lse[query]) : 0.0F;
    const float dscore =
        is_seen ? weight * (dweights.values[i] - memory.delta[query]) * inputs.scale : 0.0F;
    memory.weights[query * kScoreStride<T> + key] = from_float<T>(weight);
    memory.dscores[query * kScoreStride<T> + key] = from_float<T>(dscore);
  }
}

// One block a head and tile of keys: over the tiles of queries in ascending order.
template <class T, int N>
__global__ void __launch_bounds__(kTiledThreads, 1)
    key_gradients(TiledInputs<T> inputs, OutputGradients<T> given, T* dkeys, T* dvalues) {
  const int head = static_cast<int>(blockIdx.x) % inputs.num_heads;
  const int first_key = static_cast<int>(blockIdx.x) / inputs.num_heads * kTileTokens;
  const BackwardMemory<T> memory(SharedMemory(dynamic_shared()), inputs.key_size,
                                 inputs.value_size);
  load_keys<T, N>(memory, inputs, first_key, head);
  const int num_keys = inputs.rows_from(first_key);
  // No earlier key's segment ends after the last one's.
  const int end = segment_of(inputs.segments, inputs.num_segments, first_key + num_keys - 1).end;
  const int key_columns = padded_to_steps(inputs.key_size);
  const int value_columns = padded_to_steps(inputs.value_size);
  const int row = WarpTiles::first_row();
  WarpTiles key_sums;
  WarpTiles value_sums;
  for (int first_query = first_key; first_query < end; first_query += kTileTokens) {
    load_queries<T, N>(memory, inputs, given, first_query, head);
    wait_for_copies();
    __syncthreads();
    differentiate(memory, inputs, first_query, first_key);
    __syncthreads();
    value_sums.add(ColumnsOf<T>{memory.weights + row, kScoreStride<T>},
                   ColumnsOf<T>{memory.dout, memory.value_stride}, value_columns);
    key_sums.add(ColumnsOf<T>{memory.dscores + row, kScoreStride<T>},
                 ColumnsOf<T>{memory.queries, memory.key_stride}, key_columns);
    __syncthreads();
  }
  key_sums.store(dkeys + first_key * inputs.key_row() + std::int64_t{head} * inputs.key_size,
                 inputs.key_row(), num_keys, inputs.key_size);
  value_sums.store(
      dvalues + first_key * inputs.value_row() + std::int64_t{head} * inputs.value_head_stride,
      inputs.value_row(), num_keys, inputs.value_size);
}

// One block a head and tile of queries: over the tiles of keys in ascending order.
template <class T, int N>
__global__ void __launch_bounds__(kTiledThreads, 1)
    query_gradients(TiledInputs<T> inputs, OutputGradients<T> given, T* dq, int num_tiles) {
  const int head = static_cast<int>(blockIdx.x) % inputs.num_heads;
  const int tile = num_tiles - 1 - static_cast<int>(blockIdx.x) / inputs.num_heads;
  const int first_query = tile * kTileTokens;
  const BackwardMemory<T> memory(SharedMemory(dynamic_shared()), inputs.key_size,
                                 inputs.value_size);
  load_queries<T, N>(memory, inputs, given, first_query, head);
  __syncthreads();
  WarpTiles sums;
  for (int first_key = memory.starts[0] / kTileTokens * kTileTokens; first_key <= first_query;
       first_key += kTileTokens) {
    load_keys<T, N>(memory, inputs, first_key, head);
    wait_for_copies();
    __syncthreads();
    differentiate(memory, inputs, first_query, first_key);
    __syncthreads();
    sums.add(RowsOf<T>{memory.dscores + WarpTiles::first_row() * kScoreStride<T>, kScoreStride<T>},
             ColumnsOf<T>{memory.keys, memory.key_stride}, padded_to_steps(inputs.key_size));
    __syncthreads();
  }
  sums.store(dq + first_query * inputs.key_row() + std::int64_t{head} * inputs.key_size,
             inputs.key_row(), inputs.rows_from(first_query), inputs.key_size);
}

template <class T, int N>
void launch_backward(const ExpandedAttention& attention, const OutputGradients<T>& given,
                     const ExpandedGradients& gradients, Stream& stream) {
  const std::int64_t num_tiles = blocks_for(attention.num_tokens(), kTileTokens);
  const BackwardMemory<T> memory(SharedMemory(nullptr), attention.key_size(),
                                 attention.shape.value_size);
  const LaunchShape launch_shape{num_tiles * attention.shape.num_heads, kTiledThreads, memory.size};
  launch(key_gradients<T, N>, launch_shape, stream, tiled_inputs<T>(attention), given,
         device_data<T>(gradients.dkeys),
         device_data<T>(gradients.dkv) + attention.shape.nope_size);
  launch(query_gradients<T, N>, launch_shape, stream, tiled_inputs<T>(attention), given,
         device_data<T>(gradients.dq), num_tiles);
}

}  // namespace

void tiled_attention_backward(const ExpandedAttention& attention, const ExpandedResult& result,
                              const Tensor& dout, const ExpandedGradients& gradients,
                              Stream& stream) {
  Tensor delta = Tensor::empty(result.lse.shape(), DType::kFloat32, stream);
  with_activation_type(attention.q.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(multiply_rows<T>, {blocks_for(delta.numel(), kTiledWarps), kTiledThreads}, stream,
           device_data<T>(dout), device_data<T>(result.out), device_data<float>(delta),
           delta.numel(), attention.shape.value_size);
    const OutputGradients<T> given{device_data<T>(dout), device_data<float>(result.lse),
                                   device_data<float>(delta)};
    if (rows_fit_packs<T>(attention) && fits_packs<T>(attention.shape.value_size, {dout.raw()})) {
      launch_backward<T, kPackSize<T>>(attention, given, gradients, stream);
    } else {
      launch_backward<T, 1>(attention, given, gradients, stream);
    }
  });
}

}  // namespace fathom::kernels::cuda
