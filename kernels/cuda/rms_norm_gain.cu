#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/contribution.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/rms_norm.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

// Sums over the rows of a matrix by blocks. A lane has N columns, the warps take every kWarps-th
// row and are added last, so that the order is fixed: a row's place in it is known from its place
// in the range that is summed. A float32 gradient takes two passes: blocks sum parts of the rows,
// and blocks then sum the parts. In an integer one the range is a unit, and nothing shows how many
// there are.
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr std::int64_t kMinRows = 4 * kWarps;  // of a part
// As many as a large GPU holds at once, of 48 registers a thread: a few more would run by
// themselves when the others are done.
constexpr std::int64_t kBlocks = 5 * 132;

// dy * x_hat
template <class T>
struct GainTerms {
  const T* dy;
  std::int64_t dy_stride;
  const T* x;
  std::int64_t x_stride;
  const float* inv_rms;

  template <int N>
  __device__ __forceinline__ void add(std::int64_t token, std::int64_t column,
                                      float (&sum)[N]) const {
    float gradient[N];
    float values[N];
    load_floats<N>(dy + token * dy_stride + column, gradient);
    load_floats<N>(x + token * x_stride + column, values);
    const float inverse = inv_rms[token];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] = fmaf(gradient[i], values[i] * inverse, sum[i]);
    }
  }
};

// The sums of parts of the rows.
struct PartTerms {
  const float* parts;
  std::int64_t stride;

  template <int N>
  __device__ __forceinline__ void add(std::int64_t part, std::int64_t column,
                                      float (&sum)[N]) const {
    float values[N];
    load_floats<N>(parts + part * stride + column, values);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] += values[i];
    }
  }
};

// How the rows and columns of a matrix go to blocks.
struct Tiles {
  std::int64_t num_rows;
  std::int64_t num_columns;
  std::int64_t rows_of_part;
  unsigned num_column_tiles;

  static constexpr Tiles of(std::int64_t num_rows, std::int64_t num_columns, int columns_of_lane,
                            std::int64_t num_blocks) {
    const std::int64_t num_tiles = blocks_for(num_columns, std::int64_t{columns_of_lane} * 32);
    const std::int64_t rows = std::max(kMinRows, blocks_for(num_rows * num_tiles, num_blocks));
    return {num_rows, num_columns, rows, static_cast<unsigned>(num_tiles)};
  }
  constexpr std::int64_t num_parts() const { return blocks_for(num_rows, rows_of_part); }
};

// What a thread sums of the tile.
struct Lane {
  std::int64_t column;  // the first of its N
  int lane;
  int warp;

  template <int N>
  __device__ __forceinline__ static Lane of_thread(const Tiles& tiles) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const unsigned tile = blockIdx.x % tiles.num_column_tiles;
    return {(std::int64_t{tile} * kWarpSize + lane) * N, lane,
            static_cast<int>(threadIdx.x) / kWarpSize};
  }
};

// The sum over rows [first, last) of the lane's column `warp`, for the warps below N; all threads
// of the block must take part.
template <int N, class Terms>
__device__ __forceinline__ float sum_of_rows(const Tiles& tiles, const Lane& lane,
                                             const Terms& terms, std::int64_t first,
                                             std::int64_t last) {
  static_assert(N <= kWarps);
  __shared__ float of_warp[kWarps][N][kWarpSize];
  float sum[N] = {};
  if (lane.column < tiles.num_columns) {
#pragma unroll 4
    for (std::int64_t row = first + lane.warp; row < last; row += kWarps) {
      terms.add(row, lane.column, sum);
    }
  }
  __syncthreads();  // the last call's sums have been read
#pragma unroll
  for (int i = 0; i < N; ++i) {
    of_warp[lane.warp][i][lane.lane] = sum[i];
  }
  __syncthreads();
  float total = 0.0F;
  if (lane.warp < N) {
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      total += of_warp[w][lane.warp][lane.lane];
    }
  }
  return total;
}

// Sums of the tile's columns over the part's rows. sums[part, column] = sum, or += if it is adding.
template <class Terms, int N>
__global__ void __launch_bounds__(kThreads)
    sum_rows(Tiles tiles, Terms terms, bool is_adding, float* sums) {
  const Lane lane = Lane::of_thread<N>(tiles);
  const std::int64_t part = blockIdx.x / tiles.num_column_tiles;
  const std::int64_t first = part * tiles.rows_of_part;
  const std::int64_t last =
      part + 1 < tiles.num_parts() ? first + tiles.rows_of_part : tiles.num_rows;
  const float total = sum_of_rows<N>(tiles, lane, terms, first, last);
  if (lane.warp < N && lane.column < tiles.num_columns) {
    float* const to = sums + part * tiles.num_columns + lane.column + lane.warp;
    *to = is_adding ? *to + total : total;
  }
}

// Adds to sums[column] the contributions of the part's units.
template <class Terms, int N>
__global__ void __launch_bounds__(kThreads)
    add_units(Tiles tiles, Terms terms, std::int64_t unit_rows, Contributions contributions,
              std::int64_t* sums) {
  const Lane lane = Lane::of_thread<N>(tiles);
  const std::int64_t first = blockIdx.x / tiles.num_column_tiles * tiles.rows_of_part;
  const std::int64_t last = min(first + tiles.rows_of_part, tiles.num_rows);
  std::int64_t total = 0;
  unsigned refused = 0;
  for (std::int64_t unit = first; unit < last; unit += unit_rows) {
    total += contributions.of(sum_of_rows<N>(tiles, lane, terms, unit, unit + unit_rows), refused);
  }
  if (lane.warp < N && lane.column < tiles.num_columns) {
    add_atomically(sums + lane.column + lane.warp, total);
    contributions.count(refused);
  }
}

template <class T, int N>
void add_gain_floats(const GainTerms<T>& terms, std::int64_t num_tokens, GradientSum& gain_grad,
                     Stream& stream) {
  const std::int64_t hidden = gain_grad.sum.numel();
  const Tiles tiles = Tiles::of(num_tokens, hidden, N, kBlocks);
  Tensor parts = Tensor::empty({tiles.num_parts(), hidden}, DType::kFloat32, stream);
  launch(sum_rows<GainTerms<T>, N>, {tiles.num_parts() * tiles.num_column_tiles, kThreads}, stream,
         tiles, terms, false, device_data<float>(parts));
  Tiles whole = Tiles::of(tiles.num_parts(), hidden, 1, 1);
  launch(sum_rows<PartTerms, 1>, {whole.num_parts() * whole.num_column_tiles, kThreads}, stream,
         whole, PartTerms{device_data<float>(parts), hidden}, !gain_grad.is_empty,
         device_data<float>(gain_grad.sum));
}

template <class T, int N>
void add_gain_units(const GainTerms<T>& terms, std::int64_t num_tokens, GradientSum& gain_grad,
                    Stream& stream) {
  fill_if_empty(gain_grad, stream);
  const std::int64_t unit_rows = gain_grad.unit_rows > 0 ? gain_grad.unit_rows : num_tokens;
  Tiles tiles = Tiles::of(num_tokens, gain_grad.sum.numel(), N, kBlocks);
  tiles.rows_of_part = blocks_for(tiles.rows_of_part, unit_rows) * unit_rows;  // whole units
  launch(add_units<GainTerms<T>, N>, {tiles.num_parts() * tiles.num_column_tiles, kThreads}, stream,
         tiles, terms, unit_rows, Contributions(gain_grad),
         device_data<std::int64_t>(gain_grad.sum));
}

template <class T, int N>
void add_gain(const GainTerms<T>& terms, std::int64_t num_tokens, GradientSum& gain_grad,
              Stream& stream) {
  if (gain_grad.sum.dtype() == DType::kInt64) {
    add_gain_units<T, N>(terms, num_tokens, gain_grad, stream);
  } else {
    add_gain_floats<T, N>(terms, num_tokens, gain_grad, stream);
  }
}

void rms_norm_backward_gain_cuda(const Tensor& dy, const Tensor& x, const Tensor& inv_rms,
                                 GradientSum& gain_grad, Stream& stream) {
  if (x.size(0) == 0) {
    fill_if_empty(gain_grad, stream);
    return;
  }
  with_activation_type(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const GainTerms<T> terms{device_data<T>(dy), dy.size(1), device_data<T>(x), x.size(1),
                             device_data<float>(inv_rms)};
    const std::int64_t hidden = gain_grad.sum.numel();
    if (fits_packs<T>(hidden | dy.size(1) | x.size(1), {dy.raw(), x.raw()})) {
      add_gain<T, kPackSize<T>>(terms, x.size(0), gain_grad, stream);
    } else {
      add_gain<T, 1>(terms, x.size(0), gain_grad, stream);
    }
  });
}

const KernelRegistration register_backward_gain(rms_norm_backward_gain_slot, DeviceType::kCuda,
                                                rms_norm_backward_gain_cuda);

}  // namespace
}  // namespace fathom::kernels
