#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "core/tensor.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"

// How the norm's kernels share the rows of a matrix out to threads.
namespace fathom::kernels::cuda {

// The leading columns of a matrix.
template <class T>
struct MatrixRows {
  T* data;
  std::int64_t stride;

  __device__ __forceinline__ T* row(std::int64_t token) const { return data + token * stride; }
};
template <class T>
MatrixRows<const T> rows_of(const Tensor& tensor) {
  return {device_data<T>(tensor), tensor.size(1)};
}
template <class T>
MatrixRows<T> rows_of(Tensor& tensor) {
  return {device_data<T>(tensor), tensor.size(1)};
}

// A row is worked on by kRowThreads threads, a warp or a block, each of which takes packs of N
// elements, kPacks of them at most, and keeps them in registers; with kPacks of 0 it takes any
// number and reads them twice. An access takes kPiece elements, which does not show in the sums.
template <class Element, int kN, int kPacksOfThread, int kRowThreads, int kElementsOfAccess>
struct RowLayout {
  using T = Element;
  static constexpr int N = kN;
  static constexpr int kPiece = kElementsOfAccess;
  static constexpr int kPacks = kPacksOfThread;
  static constexpr int kThreadsOfRow = kRowThreads;
  static constexpr int kThreads = kRowThreads == kWarpSize ? 4 * kWarpSize : kRowThreads;
  static constexpr int kRowsOfBlock = kThreads / kRowThreads;

  __device__ __forceinline__ static std::int64_t token() {
    return std::int64_t{blockIdx.x} * kRowsOfBlock + threadIdx.x / kRowThreads;
  }
  // Calls body(pack of the thread, first column) for every pack of the thread.
  template <class Body>
  __device__ __forceinline__ static void for_each_pack(int hidden, const Body& body) {
    const int first = static_cast<int>(threadIdx.x) % kRowThreads * N;
    if constexpr (kPacks == 0) {
      for (int column = first; column < hidden; column += kRowThreads * N) {
        body(0, column);
      }
    } else {
#pragma unroll
      for (int pack = 0; pack < kPacks; ++pack) {
        const int column = first + pack * kRowThreads * N;
        if (column < hidden) {
          body(pack, column);
        }
      }
    }
  }
  __device__ __forceinline__ static float sum_of_row(float value) {
    if constexpr (kRowThreads == kWarpSize) {
      return reduce_warp<Sum>(value);
    } else {
      return reduce_block<Sum, kThreads>(value, 0.0F);
    }
  }
};

// A thread's part of a row. Packs are kept as words: nvcc takes elements of 16 bits apart as soon
// as it copies them, and so waits for what was only to be read ahead.
template <class L>
class RowPart {
  using T = typename L::T;
  using Packed = Pack<T, L::N>;

 public:
  RowPart() = default;
  __device__ __forceinline__ explicit RowPart(const T* row) : row_(row) {}

  // Reads the pack and keeps it, where packs are kept.
  __device__ __forceinline__ void read(int pack, int column) {
    if constexpr (L::kPacks > 0) {
      kept_[pack] = *reinterpret_cast<const Words*>(row_ + column);
    }
  }
  // Keeps x, rounded to T, in place of what was read; x becomes that.
  __device__ __forceinline__ void replace(int pack, float (&x)[L::N]) {
    Packed packed;
#pragma unroll
    for (int i = 0; i < L::N; ++i) {
      packed.values[i] = from_float<T>(x[i]);
      x[i] = to_float(packed.values[i]);
    }
    if constexpr (L::kPacks > 0) {
      memcpy(&kept_[pack], &packed, sizeof(packed));
    }
  }
  // The pack that was read before.
  __device__ __forceinline__ void again(int pack, int column, float (&x)[L::N]) const {
    if constexpr (L::kPacks == 0) {
      load_pieces<L::kPiece>(row_ + column, x);
    } else {
      Packed packed;
      memcpy(&packed, &kept_[pack], sizeof(packed));
#pragma unroll
      for (int i = 0; i < L::N; ++i) {
        x[i] = to_float(packed.values[i]);
      }
    }
  }

 private:
  struct alignas(16) Words {
    std::uint32_t values[4];
  };
  static_assert(L::kPacks == 0 || (sizeof(Packed) == sizeof(Words) && L::kPiece == L::N));

  const T* row_ = nullptr;
  Words kept_[L::kPacks == 0 ? 1 : L::kPacks]{};
};

template <class L>
struct LayoutTag {
  using type = L;
};

// Calls body(LayoutTag<L>()) with a layout of N elements a pack and kRowThreads, which settle the
// order of a row's sum.
template <class T, int N, int kPacks, int kRowThreads, class Body>
void with_accesses(bool is_packed, const Body& body) {
  if (is_packed) {
    body(LayoutTag<RowLayout<T, N, kPacks, kRowThreads, N>>());
  } else {
    body(LayoutTag<RowLayout<T, N, 0, kRowThreads, 1>>());
  }
}

// The longest row of a warp.
inline constexpr int kWarpRow = 16 * kWarpSize;

// Calls body(LayoutTag<L>()) with the layout for rows of `hidden` elements: 16 elements a
// thread where that goes, so that a multiprocessor waits for many bytes at a time.
// `is_packed`: rows can be taken by 16-byte accesses.
template <class T, class Body>
void with_layout(int hidden, bool is_packed, const Body& body) {
  constexpr int N = kPackSize<T>;
  constexpr int kPacks = 16 / N;  // 16 elements a thread
  if (hidden % N != 0 || hidden > 32 * 256) {
    body(LayoutTag<RowLayout<T, 1, 0, 256, 1>>());
  } else if (hidden <= kWarpRow) {
    with_accesses<T, N, kPacks, kWarpSize>(is_packed, body);
  } else if (hidden <= 16 * 128) {
    with_accesses<T, N, kPacks, 128>(is_packed, body);
  } else if (hidden <= 16 * 256) {
    with_accesses<T, N, kPacks, 256>(is_packed, body);
  } else {
    with_accesses<T, N, 2 * kPacks, 256>(is_packed, body);
  }
}

}  // namespace fathom::kernels::cuda
