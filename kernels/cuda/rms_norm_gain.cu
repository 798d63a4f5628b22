#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/rms_norm.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

// Sums over the rows of a matrix, in two passes: blocks sum parts of the rows, and blocks then sum
// the parts. In both a lane has N columns, the warps take every kWarps-th row and are added last,
// so that the order is fixed.
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

// Sums of the tile's columns over the part's rows. sums[part, column] = sum, or += if it is adding.
template <class Terms, int N>
__global__ void __launch_bounds__(kThreads)
    sum_rows(Tiles tiles, Terms terms, bool is_adding, float* sums) {
  __shared__ float of_warp[kWarps][N][kWarpSize];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const unsigned tile = blockIdx.x % tiles.num_column_tiles;
  const std::int64_t part = blockIdx.x / tiles.num_column_tiles;
  const std::int64_t column = (std::int64_t{tile} * kWarpSize + lane) * N;
  const std::int64_t first = part * tiles.rows_of_part;
  const std::int64_t last =
      part + 1 < tiles.num_parts() ? first + tiles.rows_of_part : tiles.num_rows;
  const bool has_columns = column < tiles.num_columns;
  float sum[N] = {};
  if (has_columns) {
#pragma unroll 4
    for (std::int64_t row = first + warp; row < last; row += kWarps) {
      terms.add(row, column, sum);
    }
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    of_warp[warp][i][lane] = sum[i];
  }
  __syncthreads();
  // Warp w has the w-th, then every kWarps-th of a lane's columns.
  for (int i = warp; i < N; i += kWarps) {
    float total = 0.0F;
    for (int w = 0; w < kWarps; ++w) {
      total += of_warp[w][i][lane];
    }
    if (has_columns) {
      float* const to = sums + part * tiles.num_columns + column + i;
      *to = is_adding ? *to + total : total;
    }
  }
}

template <class T, int N>
void add_gain(const GainTerms<T>& terms, std::int64_t num_tokens, GradientSum& gain_grad,
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

void rms_norm_backward_gain_cuda(const Tensor& dy, const Tensor& x, const Tensor& inv_rms,
                                 GradientSum& gain_grad, Stream& stream) {
  FATHOM_CHECK(gain_grad.sum.dtype() == DType::kFloat32, "on CUDA gradients are float32, not ",
               gain_grad.sum.dtype());
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
