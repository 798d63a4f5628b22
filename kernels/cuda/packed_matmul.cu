#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/packed_matmul.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kPanel = 16;
constexpr int kTile = 64;  // of the inner dimension, packed by one block

// One block packs kTile inner places of a panel, through shared memory: reads run along the rows of
// w, writes along the columns of the panel.
template <class T>
__global__ void __launch_bounds__(kThreads)
    pack(const T* w, T* packed, std::int64_t out_size, std::int64_t in_size,
         std::int64_t tiles_of_panel) {
  __shared__ T tile[kPanel][kTile + 1];
  const std::int64_t num_panels = (out_size + kPanel - 1) / kPanel;
  const std::int64_t panel = blockIdx.x / tiles_of_panel;  // of all matrices
  const std::int64_t first = blockIdx.x % tiles_of_panel * kTile;
  const std::int64_t first_row = panel % num_panels * kPanel;
  const T* matrix = w + panel / num_panels * out_size * in_size;
  for (int i = static_cast<int>(threadIdx.x); i < kPanel * kTile; i += kThreads) {
    const std::int64_t row = first_row + i / kTile;
    const std::int64_t place = first + i % kTile;
    tile[i / kTile][i % kTile] =
        row < out_size && place < in_size ? matrix[row * in_size + place] : from_float<T>(0.0F);
  }
  __syncthreads();
  T* to = packed + (panel * in_size + first) * kPanel;
  for (int i = static_cast<int>(threadIdx.x); i < kPanel * kTile; i += kThreads) {
    if (first + i / kPanel < in_size) {
      to[i] = tile[i % kPanel][i / kPanel];
    }
  }
}

// Products of several matrices [out_size, in_size], each with rows and columns of its own.
template <class T>
struct Operands {
  const T* x;
  const T* packed;
  T* y;
  std::int64_t num_rows;
  std::int64_t x_stride;
  std::int64_t y_stride;
  std::int64_t in_size;
  std::int64_t out_size;
  std::int64_t x_step = 0;  // columns from one matrix to the next
  std::int64_t y_step = 0;
  const std::int64_t* offsets = nullptr;  // of each matrix's rows; null: every matrix has all
  std::int64_t tiles_at_once = 1;         // blocks that share the rows of a panel
};

struct Rows {
  std::int64_t begin;
  std::int64_t end;
};

// Offsets outside x cannot be refused here: they are cut to it.
template <class T>
__device__ __forceinline__ Rows rows_of(const Operands<T>& operands, std::int64_t matrix) {
  if (operands.offsets == nullptr) {
    return {0, operands.num_rows};
  }
  const auto inside = [&](std::int64_t row) {
    return row < 0 ? 0 : (row < operands.num_rows ? row : operands.num_rows);
  };
  return {inside(operands.offsets[matrix]), inside(operands.offsets[matrix + 1])};
}

// sums[r][i] += x(row + r, k) panel(k, column + i) over the places k of this lane: lanes take
// neighbouring 16 bytes of the panel, warps take turns.
template <int kRows, int kColumns, class T>
__device__ __forceinline__ void multiply(const T* x, std::int64_t x_stride, int num_rows,
                                         const T* panel, std::int64_t in_size,
                                         float (&sums)[kRows][kColumns]) {
  constexpr int kLanesOfPlace = kPanel / kColumns;
  constexpr int kPlaces = kThreads / kLanesOfPlace;  // of the block at once
  const int column = static_cast<int>(threadIdx.x) % kLanesOfPlace * kColumns;
#pragma unroll 2
  for (std::int64_t k = threadIdx.x / kLanesOfPlace; k < in_size; k += kPlaces) {
    float weights[kColumns];
    load_floats<kColumns>(panel + k * kPanel + column, weights);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float factor = r < num_rows ? to_float(x[r * x_stride + k]) : 0.0F;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        sums[r][i] = fmaf(factor, weights[i], sums[r][i]);
      }
    }
  }
}

// Over all lanes of the warp that hold the same columns, in one fixed tree.
template <int kRows, int kColumns>
__device__ __forceinline__ void reduce_places(float (&sums)[kRows][kColumns]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
#pragma unroll
      for (int distance = kWarpSize / 2; distance >= kPanel / kColumns; distance /= 2) {
        sums[r][i] += __shfl_xor_sync(kAllLanes, sums[r][i], distance);
      }
    }
  }
}

// One block multiplies tiles of kRows rows with one panel.
template <int kRows, class T>
__global__ void __launch_bounds__(kThreads) forward(const Operands<T> operands) {
  constexpr int kColumns = kPackSize<T>;  // of a lane
  constexpr int kLanesOfPlace = kPanel / kColumns;
  static_assert(kRows * kPanel <= kThreads);
  __shared__ float partial[kWarps][kRows][kPanel];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpSize;
  const std::int64_t num_panels = (operands.out_size + kPanel - 1) / kPanel;
  const std::int64_t panel = blockIdx.x / operands.tiles_at_once;  // of all matrices
  const std::int64_t matrix = panel / num_panels;
  const std::int64_t first_column = panel % num_panels * kPanel;
  const T* weights = operands.packed + panel * operands.in_size * kPanel;
  const Rows rows = rows_of(operands, matrix);
  const std::int64_t first_tile = blockIdx.x % operands.tiles_at_once;
  for (std::int64_t row = rows.begin + first_tile * kRows; row < rows.end;
       row += operands.tiles_at_once * kRows) {
    const int num_rows = static_cast<int>(rows.end - row < kRows ? rows.end - row : kRows);
    float sums[kRows][kColumns] = {};
    multiply(operands.x + row * operands.x_stride + matrix * operands.x_step, operands.x_stride,
             num_rows, weights, operands.in_size, sums);
    reduce_places(sums);
    __syncthreads();  // the last tile's sums have been read
    if (lane < kLanesOfPlace) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) {
          partial[thread / kWarpSize][r][lane * kColumns + i] = sums[r][i];
        }
      }
    }
    __syncthreads();
    const int r = thread / kPanel;
    const int column = thread % kPanel;
    if (r < num_rows && first_column + column < operands.out_size) {
      float sum = 0.0F;
      for (int warp = 0; warp < kWarps; ++warp) {
        sum += partial[warp][r][column];
      }
      operands.y[(row + r) * operands.y_stride + matrix * operands.y_step + first_column + column] =
          from_float<T>(sum);
    }
  }
}

void pack_weight_cuda(const Tensor& w, Tensor& packed, Stream& stream) {
  const std::int64_t out_size = w.shape()[-2];
  const std::int64_t in_size = w.shape()[-1];
  if (packed.numel() == 0) {
    return;
  }
  const std::int64_t tiles = blocks_for(in_size, kTile);
  with_activation_type(w.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch(pack<T>, {packed.numel() / (in_size * kPanel) * tiles, kThreads}, stream,
           device_data<T>(w), device_data<T>(packed), out_size, in_size, tiles);
  });
}

// rows_at_once: how many rows of a matrix to take side by side.
template <class T>
void launch_forward(Operands<T> operands, std::int64_t num_matrices, std::int64_t rows_at_once,
                    Stream& stream) {
  if (operands.num_rows == 0 || num_matrices == 0) {
    return;
  }
  const std::int64_t num_panels = num_matrices * padded_to_panels(operands.out_size) / kPanel;
  const auto run = [&](void (*kernel)(Operands<T>), int rows_of_tile) {
    operands.tiles_at_once = blocks_for(rows_at_once, rows_of_tile);
    launch(kernel, {num_panels * operands.tiles_at_once, kThreads}, stream, operands);
  };
  if (rows_at_once == 1) {
    run(forward<1, T>, 1);
  } else if (rows_at_once <= 4) {
    run(forward<4, T>, 4);
  } else {
    run(forward<8, T>, 8);
  }
}

template <class T>
Operands<T> operands_of(const Tensor& x, const Tensor& packed, Tensor& y) {
  return {device_data<T>(x), device_data<T>(packed), device_data<T>(y), x.size(0), x.size(1),
          y.size(1),         packed.shape()[-2],     y.size(1)};
}

void forward_cuda(const Tensor& x, const Tensor& packed, Tensor& y, int /*num_chunks*/,
                  Stream& stream) {
  with_activation_type(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    launch_forward(operands_of<T>(x, packed, y), 1, x.size(0), stream);
  });
}

// How many rows an expert has is known on the device alone: few are expected, tile by tile come
// all.
void forward_grouped_cuda(const Tensor& x, const Tensor& packed, const Tensor& offsets, Tensor& y,
                          Stream& stream) {
  constexpr std::int64_t kRowsOfExpert = 4;
  with_activation_type(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    Operands<T> operands = operands_of<T>(x, packed, y);
    operands.offsets = device_data<std::int64_t>(offsets);
    launch_forward(operands, packed.size(0), kRowsOfExpert, stream);
  });
}

void forward_heads_cuda(const Tensor& x, const Tensor& packed, Tensor& y, Stream& stream) {
  const std::int64_t num_heads = packed.size(0);
  with_activation_type(x.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    Operands<T> operands = operands_of<T>(x, packed, y);
    operands.x_step = x.size(1) / num_heads;
    operands.y_step = operands.out_size = y.size(1) / num_heads;
    launch_forward(operands, num_heads, x.size(0), stream);
  });
}

const KernelRegistration register_pack(pack_weight_slot, DeviceType::kCuda, pack_weight_cuda);
const KernelRegistration register_forward(packed_matmul_forward_slot, DeviceType::kCuda,
                                          forward_cuda);
const KernelRegistration register_grouped(packed_grouped_matmul_forward_slot, DeviceType::kCuda,
                                          forward_grouped_cuda);
const KernelRegistration register_heads(packed_head_matmul_forward_slot, DeviceType::kCuda,
                                        forward_heads_cuda);

}  // namespace
}  // namespace fathom::kernels
