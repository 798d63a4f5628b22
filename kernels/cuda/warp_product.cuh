#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/sm90.cuh"

namespace fathom::kernels::cuda {

// Products of small matrices in shared memory, tiles of 16 x 8 by a warp: bfloat16 by the tensor
// cores (mma.sync.m16n8k16, PTX ISA "Matrix Fragments for mma.m16n8k16"), float32 by fma.

// A lane's four numbers of a 16 x 8 tile: rows g and g + 8 (g = lane / 4), columns 2t and 2t + 1
// (t = lane % 4).
struct Tile {
  static constexpr int kRows = 16;
  static constexpr int kColumns = 8;
  float values[4] = {};

  __device__ static int row(int index) {
    return static_cast<int>(threadIdx.x) % kWarpSize / 4 + index / 2 * 8;
  }
  __device__ static int column(int index) {
    return static_cast<int>(threadIdx.x) % 4 * 2 + index % 2;
  }
};

// A factor of a product: (outer, inner), where the product sums over inner. kByOuter: its rows are
// along outer and neighbours in memory are along inner; else the other way round. In bfloat16 its
// rows begin at 16-byte addresses.
template <class T, bool kByOuter>
struct Factor {
  const T* data;
  int stride;

  __device__ Factor from(int outer) const {
    return {data + (kByOuter ? outer * stride : outer), stride};
  }
  __device__ T at(int outer, int inner) const {
    return kByOuter ? data[outer * stride + inner] : data[inner * stride + outer];
  }
  // Where this lane's row of 8 x 8 matrices begins for load_matrices; those of lanes 8 i to 8 i + 7
  // belong to the matrix at these places for i.
  __device__ const T* matrix_row(int outer, int inner) const {
    const int row = static_cast<int>(threadIdx.x) % 8;
    return data + (kByOuter ? (outer + row) * stride + inner : (inner + row) * stride + outer);
  }
};
template <class T>
using RowsOf = Factor<T, true>;
template <class T>
using ColumnsOf = Factor<T, false>;

// c += a b^T for 16 x 16 times (8 x 16)^T in bfloat16, sums in float32. All lanes of a warp.
__device__ __forceinline__ void multiply_16x8x16(float (&c)[4], const unsigned (&a)[4],
                                                 const unsigned (&b)[2]) {
#ifdef FATHOM_CUDA_EMULATED
  emulator::mma_m16n8k16_bf16(c, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// to[i]: of the i-th 8 x 8 matrix of 16-bit numbers in shared memory, numbers 2t and 2t + 1 of row
// g, or kTransposed of column g. Lane 8 i + j says where row j of matrix i begins. All lanes of a
// warp (ldmatrix.sync.m8n8).
template <bool kTransposed>
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void* row) {
#ifdef FATHOM_CUDA_EMULATED
  emulator::load_matrices(to, row, kTransposed);
#else
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
#endif
}
template <bool kTransposed>
__device__ __forceinline__ void load_matrices(unsigned (&to)[2], const void* row) {
#ifdef FATHOM_CUDA_EMULATED
  emulator::load_matrices(to, row, kTransposed);
#else
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(row))
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(row))
                 : "memory");
  }
#endif
}

// The products' inner sizes are multiples of this; what is beyond a matrix is zero.
inline constexpr int kInnerStep = 16;

// c[i][r] += a_r b_i^T for neighbouring tiles a_r of 16 outer rows of a, and b_i of 8 of b,
// `distance` rows apart; those b_i that begin at or after row `outer` are left out. Both have
// `inner` columns. An element's terms are added in ascending order, whatever the number of tiles.
// All lanes of a warp.
template <int kColumnTiles, int kRowTiles, bool kA, bool kB>
__device__ __forceinline__ void add_products(Tile (&c)[kColumnTiles][kRowTiles],
                                             const Factor<__nv_bfloat16, kA>& a,
                                             const Factor<__nv_bfloat16, kB>& b, int distance,
                                             int outer, int inner) {
  const int matrix = static_cast<int>(threadIdx.x) % kWarpSize / 8;
  // Several row tiles keep the tensor cores busy in one step, and more would not fit into
  // registers.
#pragma unroll(kRowTiles == 1 ? 4 : 1)
  for (int k = 0; k < inner; k += kInnerStep) {
    unsigned left[kRowTiles][4];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      load_matrices<!kA>(left[r],
                         a.matrix_row(r * Tile::kRows + matrix % 2 * 8, k + matrix / 2 * 8));
    }
#pragma unroll
    for (int i = 0; i < kColumnTiles; ++i) {
      if (i * distance < outer) {
        unsigned right[2];
        load_matrices<!kB>(right, b.matrix_row(i * distance, k + matrix % 2 * 8));
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          multiply_16x8x16(c[i][r].values, left[r], right);
        }
      }
    }
  }
}
// fmaf in words: where a compiler may contract, it need not do it alike in every instance.
template <int kColumnTiles, int kRowTiles, bool kA, bool kB>
__device__ __forceinline__ void add_products(Tile (&c)[kColumnTiles][kRowTiles],
                                             const Factor<float, kA>& a, const Factor<float, kB>& b,
                                             int distance, int outer, int inner) {
  const int row = Tile::row(0);
  const int column = Tile::column(0);
  for (int k = 0; k < inner; ++k) {
    float left[kRowTiles][2];
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      left[r][0] = a.at(row + r * Tile::kRows, k);
      left[r][1] = a.at(row + r * Tile::kRows + 8, k);
    }
#pragma unroll
    for (int i = 0; i < kColumnTiles; ++i) {
      if (i * distance < outer) {
        const float right[2] = {b.at(column + i * distance, k), b.at(column + i * distance + 1, k)};
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            c[i][r].values[j] = __fmaf_rn(left[r][j / 2], right[j % 2], c[i][r].values[j]);
          }
        }
      }
    }
  }
}
// One tile of b.
template <int kRowTiles, bool kA, bool kB, class T>
__device__ __forceinline__ void add_product(Tile (&c)[1][kRowTiles], const Factor<T, kA>& a,
                                            const Factor<T, kB>& b, int inner) {
  add_products(c, a, b, 0, Tile::kColumns, inner);
}

// Rounded up to a whole number of inner steps.
constexpr int padded_to_steps(int size) {
  return (size + kInnerStep - 1) / kInnerStep * kInnerStep;
}
// Elements from a row of `size` in shared memory to the next: rows start at 16-byte addresses an
// odd number of which lies between them, so that eight neighbours start in different banks.
template <class T>
constexpr int shared_stride(int size) {
  return padded_to_steps(size) + kPackSize<T>;
}

// Rows in device memory, `stride` elements from one to the next.
template <class T>
struct DeviceRows {
  const T* data;
  std::int64_t stride;
  int num_rows;
};

// Copies elements [0, count) of a row into shared memory by accesses of N elements; those from
// there up to `padded` become zero. All lanes of a warp; each has to wait_for_copies.
template <int N, class T>
__device__ __forceinline__ void load_row(const T* from, int count, int padded, T* to) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int column = lane * N; column < padded; column += kWarpSize * N) {
    if constexpr (N == kPackSize<T>) {
      begin_copy(from + column, to + column, column < count);
    } else {
      Pack<T, N> pack{};
      if (column < count) {
        pack = *reinterpret_cast<const Pack<T, N>*>(from + column);
      }
      *reinterpret_cast<Pack<T, N>*>(to + column) = pack;
    }
  }
}
// The same for `num_rows` rows; those that the source does not have become zero. All threads.
template <int N, class T>
__device__ __forceinline__ void load_rows(const DeviceRows<T>& from, int columns, int padded,
                                          int num_rows, T* to, int to_stride) {
  const int num_warps = static_cast<int>(blockDim.x) / kWarpSize;
  for (int row = static_cast<int>(threadIdx.x) / kWarpSize; row < num_rows; row += num_warps) {
    load_row<N>(from.data + row * from.stride, row < from.num_rows ? columns : 0, padded,
                to + row * to_stride);
  }
}
// Begins to bring them to the second-level cache. All threads.
template <class T>
__device__ __forceinline__ void prefetch_rows(const DeviceRows<T>& rows) {
  constexpr int kLine = 128 / sizeof(T);
  const int end = rows.num_rows * static_cast<int>(rows.stride);
  for (int i = static_cast<int>(threadIdx.x) * kLine; i < end;
       i += static_cast<int>(blockDim.x) * kLine) {
    prefetch_line(rows.data + i);
  }
}

}  // namespace fathom::kernels::cuda
