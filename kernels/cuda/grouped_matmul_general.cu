#include <type_traits>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/grouped_matmul.cuh"

namespace fathom::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;     // rows and columns of C
constexpr int kDepth = 16;    // of A and B in shared memory at a time
constexpr int kOfThread = 4;  // rows and columns of C in a thread's registers
constexpr int kBlocksOfMultiprocessor = 4;

static_assert(kTile * kTile == kThreads * kOfThread * kOfThread);

// A or B in shared memory; `index` is the row of A or the column of B. The padding keeps the rows'
// 16-byte alignment and spreads a column over the banks.
struct alignas(16) Panel {
  float at[kDepth][kTile + 4];  // [depth][index]
};

// Element (index, depth) of a matrix is data[index * stride + depth], or with kIndexContiguous
// data[depth * stride + index]; zero outside [0, size) x [0, depth_size).
template <bool kIndexContiguous, class T>
__device__ __forceinline__ void load_panel(const T* data, std::int64_t stride, int size,
                                           int depth_size, Panel& panel) {
#pragma unroll
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kThreads) {
    const int index = kIndexContiguous ? i % kTile : i / kDepth;
    const int depth = kIndexContiguous ? i / kTile : i % kDepth;
    const std::int64_t place = kIndexContiguous ? depth * stride + index : index * stride + depth;
    panel.at[depth][index] = index < size && depth < depth_size ? to_float(data[place]) : 0.0F;
  }
}

__device__ __forceinline__ void multiply_panels(const Panel& a, const Panel& b, int row, int column,
                                                float (&sum)[kOfThread][kOfThread]) {
#pragma unroll
  for (int depth = 0; depth < kDepth; ++depth) {
    float x[kOfThread];
    float y[kOfThread];
    load_floats<kOfThread>(&a.at[depth][row], x);
    load_floats<kOfThread>(&b.at[depth][column], y);
#pragma unroll
    for (int i = 0; i < kOfThread; ++i) {
#pragma unroll
      for (int j = 0; j < kOfThread; ++j) {
        sum[i][j] = __fmaf_rn(x[i], y[j], sum[i][j]);
      }
    }
  }
}

template <GroupedProduct kProduct, class T>
__global__ void __launch_bounds__(kThreads)
    general(GroupedOperands<T> operands, GroupedSizes sizes) {
  constexpr bool kIsWeight = kProduct == GroupedProduct::kBackwardWeight;
  constexpr bool kIsForward = kProduct == GroupedProduct::kForward;
  using Output = std::conditional_t<kIsWeight, float, T>;
  __shared__ Panel a;
  __shared__ Panel b;
  const std::int64_t a_stride = kIsForward ? sizes.in_size : sizes.out_size;
  const std::int64_t b_stride = sizes.in_size;
  const std::int64_t weight_size = std::int64_t{sizes.out_size} * sizes.in_size;
  const int row = static_cast<int>(threadIdx.x) / (kTile / kOfThread) * kOfThread;
  const int column = static_cast<int>(threadIdx.x) % (kTile / kOfThread) * kOfThread;
  TileWalk<kProduct, kTile, kTile> walk(sizes, static_cast<int>(blockIdx.x),
                                        static_cast<int>(gridDim.x));
  for (GroupedTile tile; walk.next(tile);) {
    float sum[kOfThread][kOfThread] = {};
    for (int depth = tile.depth; depth < tile.depth_end; depth += kDepth) {
      const T* a_data =
          operands.a + (kIsWeight ? depth * a_stride + tile.row : tile.row * a_stride + depth);
      const T* b_data =
          operands.b + (kIsWeight ? 0 : tile.expert * weight_size) +
          (kIsForward ? tile.column * b_stride + depth : depth * b_stride + tile.column);
      __syncthreads();  // the panels before have been read
      load_panel<kIsWeight>(a_data, a_stride, tile.row_end - tile.row, tile.depth_end - depth, a);
      load_panel<!kIsForward>(b_data, b_stride, tile.column_end - tile.column,
                              tile.depth_end - depth, b);
      __syncthreads();
      multiply_panels(a, b, row, column, sum);
    }
    auto* const c = static_cast<Output*>(operands.c) + (kIsWeight ? tile.expert * weight_size : 0);
#pragma unroll
    for (int i = 0; i < kOfThread * kOfThread; ++i) {
      const int to_row = tile.row + row + i / kOfThread;
      const int to_column = tile.column + column + i % kOfThread;
      if (to_row < tile.row_end && to_column < tile.column_end) {
        Output& to = c[std::int64_t{to_row} * tile.column_end + to_column];
        const float value = sum[i / kOfThread][i % kOfThread];
        to = from_float<Output>(kIsWeight && sizes.is_adding ? to_float(to) + value : value);
      }
    }
  }
}

}  // namespace

template <GroupedProduct kProduct, class T>
void grouped_product_general(const GroupedOperands<T>& operands, const GroupedSizes& sizes,
                             Stream& stream) {
  const std::int64_t num_blocks =
      std::min<std::int64_t>(most_tiles<kProduct, kTile, kTile>(sizes),
                             kBlocksOfMultiprocessor * num_multiprocessors(stream));
  launch(general<kProduct, T>, {num_blocks, kThreads}, stream, operands, sizes);
}

#define FATHOM_INSTANTIATE(product, T)                                                         \
  template void grouped_product_general<GroupedProduct::product, T>(const GroupedOperands<T>&, \
                                                                    const GroupedSizes&, Stream&)
FATHOM_INSTANTIATE(kForward, float);
FATHOM_INSTANTIATE(kForward, __nv_bfloat16);
FATHOM_INSTANTIATE(kBackwardInput, float);
FATHOM_INSTANTIATE(kBackwardInput, __nv_bfloat16);
FATHOM_INSTANTIATE(kBackwardWeight, float);
FATHOM_INSTANTIATE(kBackwardWeight, __nv_bfloat16);
#undef FATHOM_INSTANTIATE

}  // namespace fathom::kernels::cuda
