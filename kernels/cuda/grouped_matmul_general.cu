#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/contribution.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/grouped_product.h"
#include "kernels/cuda/multiprocessors.h"

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

// The operands of a product; a and b of T, c of Output.
template <class T, class Output>
struct Matrices {
  explicit Matrices(const GroupedOperands& operands)
      : a(reinterpret_cast<const T*>(operands.a.data)),
        b(reinterpret_cast<const T*>(operands.b.data)),
        c(reinterpret_cast<Output*>(operands.c.data)),
        a_stride(operands.a.stride),
        b_stride(operands.b.stride),
        c_stride(operands.c.stride) {}

  const T* a;
  const T* b;
  Output* c;
  std::int64_t a_stride;
  std::int64_t b_stride;
  std::int64_t c_stride;
};

// What a block shares, and where in a tile of C a thread's elements begin.
struct Place {
  Panel& a;
  Panel& b;
  int row;
  int column;
};

__device__ __forceinline__ Place place_in(Panel& a, Panel& b) {
  constexpr int kThreadsOfRow = kTile / kOfThread;
  return {a, b, static_cast<int>(threadIdx.x) / kThreadsOfRow * kOfThread,
          static_cast<int>(threadIdx.x) % kThreadsOfRow * kOfThread};
}

// Adds the products of a range of a tile's depth to a thread's elements.
template <GroupedProduct kProduct, class Matrices>
__device__ __forceinline__ void add_products(const Matrices& m, const GroupedSizes& sizes,
                                             const GroupedTile& tile, const DepthRange& range,
                                             const Place& place,
                                             float (&sum)[kOfThread][kOfThread]) {
  constexpr bool kIsWeight = kProduct == GroupedProduct::kBackwardWeight;
  constexpr bool kIsForward = kProduct == GroupedProduct::kForward;
  const auto* const b = m.b + (kIsWeight ? 0 : tile.expert * (sizes.out_size * m.b_stride));
  for (int depth = range.begin; depth < range.end; depth += kDepth) {
    const auto* const a_data =
        m.a + (kIsWeight ? depth * m.a_stride + tile.row : tile.row * m.a_stride + depth);
    const auto* const b_data =
        b + (kIsForward ? tile.column * m.b_stride + depth : depth * m.b_stride + tile.column);
    __syncthreads();  // the panels before have been read
    load_panel<kIsWeight>(a_data, m.a_stride, tile.row_end - tile.row, range.end - depth, place.a);
    load_panel<!kIsForward>(b_data, m.b_stride, tile.column_end - tile.column, range.end - depth,
                            place.b);
    __syncthreads();
    multiply_panels(place.a, place.b, place.row, place.column, sum);
  }
}

// Calls body(i, j, place of the element in a matrix of that stride) for those of a thread's
// elements that exist.
template <class Body>
__device__ __forceinline__ void for_each_element(const GroupedTile& tile, const Place& place,
                                                 std::int64_t stride, const Body& body) {
#pragma unroll
  for (int i = 0; i < kOfThread; ++i) {
#pragma unroll
    for (int j = 0; j < kOfThread; ++j) {
      const int row = tile.row + place.row + i;
      const int column = tile.column + place.column + j;
      if (row < tile.row_end && column < tile.column_end) {
        body(i, j, std::int64_t{row} * stride + column);
      }
    }
  }
}

template <GroupedProduct kProduct, class T, class Output>
__global__ void __launch_bounds__(kThreads) general(Matrices<T, Output> m, GroupedSizes sizes) {
  __shared__ Panel a;
  __shared__ Panel b;
  const Place place = place_in(a, b);
  TileWalk<kProduct, kTile, kTile> walk(sizes, static_cast<int>(blockIdx.x),
                                        static_cast<int>(gridDim.x));
  for (GroupedTile tile; walk.next(tile);) {
    float sum[kOfThread][kOfThread] = {};
    add_products<kProduct>(m, sizes, tile, {tile.depth, tile.depth_end}, place, sum);
    Output* const c = m.c + (kProduct == GroupedProduct::kBackwardWeight
                                 ? tile.expert * (sizes.out_size * m.c_stride)
                                 : 0);
    for_each_element(tile, place, m.c_stride, [&](int i, int j, std::int64_t to) {
      c[to] = from_float<Output>(sizes.is_adding ? to_float(c[to]) + sum[i][j] : sum[i][j]);
    });
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    general_contributions(Matrices<T, std::int64_t> m, GroupedSizes sizes,
                          Contributions contributions) {
  constexpr GroupedProduct kProduct = GroupedProduct::kBackwardWeight;
  __shared__ Panel a;
  __shared__ Panel b;
  const Place place = place_in(a, b);
  unsigned refused = 0;
  TileWalk<kProduct, kTile, kTile> walk(sizes, static_cast<int>(blockIdx.x),
                                        static_cast<int>(gridDim.x));
  for (GroupedTile tile; walk.next(tile);) {
    std::int64_t total[kOfThread][kOfThread] = {};
    DepthWalk<true> parts(sizes, tile);
    for (DepthRange part; parts.next(part);) {
      float sum[kOfThread][kOfThread] = {};
      add_products<kProduct>(m, sizes, tile, part, place, sum);
      for_each_element(tile, place, 0, [&](int i, int j, std::int64_t) {
        total[i][j] += contributions.of(sum[i][j], refused);
      });
    }
    std::int64_t* const c = m.c + tile.expert * (sizes.out_size * m.c_stride);
    for_each_element(tile, place, m.c_stride, [&](int i, int j, std::int64_t to) {
      c[to] = sizes.is_adding ? c[to] + total[i][j] : total[i][j];
    });
  }
  contributions.count(refused);
}

template <GroupedProduct kProduct>
std::int64_t num_blocks(const GroupedSizes& sizes, Stream& stream) {
  return std::min<std::int64_t>(most_tiles<kProduct, kTile, kTile>(sizes),
                                kBlocksOfMultiprocessor * num_multiprocessors(stream));
}

template <GroupedProduct kProduct, class T, class Output>
void launch_general(const GroupedOperands& operands, const GroupedSizes& sizes, Stream& stream) {
  launch(general<kProduct, T, Output>, {num_blocks<kProduct>(sizes, stream), kThreads}, stream,
         Matrices<T, Output>(operands), sizes);
}

template <class T>
void launch_weight(const GroupedOperands& operands, const GroupedSizes& sizes, Stream& stream) {
  constexpr GroupedProduct kProduct = GroupedProduct::kBackwardWeight;
  if (operands.c.dtype == DType::kInt64) {
    launch(general_contributions<T>, {num_blocks<kProduct>(sizes, stream), kThreads}, stream,
           Matrices<T, std::int64_t>(operands), sizes, Contributions(*operands.gradient));
  } else {
    launch_general<kProduct, T, float>(operands, sizes, stream);
  }
}

template <GroupedProduct kProduct>
void launch_activations(const GroupedOperands& operands, const GroupedSizes& sizes,
                        Stream& stream) {
  with_activation_type(operands.a.dtype, [&](auto factor) {
    with_activation_type(operands.c.dtype, [&](auto output) {
      using T = typename decltype(factor)::type;
      using Output = typename decltype(output)::type;
      if constexpr (sizeof(Output) >= sizeof(T)) {
        launch_general<kProduct, T, Output>(operands, sizes, stream);
      } else {
        FATHOM_CHECK(false, "a product of float32 to ", operands.c.dtype);
      }
    });
  });
}

}  // namespace

void grouped_product_general(GroupedProduct product, const GroupedOperands& operands,
                             const GroupedSizes& sizes, Stream& stream) {
  switch (product) {
    case GroupedProduct::kForward:
      launch_activations<GroupedProduct::kForward>(operands, sizes, stream);
      break;
    case GroupedProduct::kBackwardInput:
      launch_activations<GroupedProduct::kBackwardInput>(operands, sizes, stream);
      break;
    case GroupedProduct::kBackwardWeight:
      with_activation_type(operands.a.dtype, [&](auto factor) {
        launch_weight<typename decltype(factor)::type>(operands, sizes, stream);
      });
      break;
  }
}

}  // namespace fathom::kernels::cuda
