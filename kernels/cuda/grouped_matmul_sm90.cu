#include <cstring>

#include "kernels/cuda/grouped_matmul_sm90.cuh"

// Grouped products whose sums are written as they are, or added to what is there.

namespace fathom::kernels::cuda {
namespace grouped {
namespace {

// Four neighbouring lanes each hold four words; word i of lane j becomes word j of lane i.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&words)[4]) {
  const unsigned lane = threadIdx.x;
#pragma unroll
  for (int distance = 1; distance <= 2; distance *= 2) {
    const bool is_upper = (lane & static_cast<unsigned>(distance)) != 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int low = distance == 1 ? 2 * i : i;
      const int high = low + distance;
      const std::uint32_t sent = is_upper ? words[low] : words[high];
      const std::uint32_t got = __shfl_xor_sync(kAllLanes, sent, distance);
      (is_upper ? words[low] : words[high]) = got;
    }
  }
}

// Where a lane's part of a tile goes.
struct Destination {
  int row = 0;  // of the lane's first element
  int row_end = 0;
  int column = 0;           // of the tile's first element
  int columns = 0;          // of C
  std::int64_t stride = 0;  // from a row of C to the next
  bool is_adding = false;   // to what is there
};

// Eight neighbours of C that a lane adds to; the lanes of a quad hold 32 columns.
__device__ __forceinline__ void load_words(const __nv_bfloat16* from, std::uint32_t (&words)[4]) {
  const float4 bits = load_in_place(reinterpret_cast<const float*>(from));
  memcpy(words, &bits, sizeof(bits));
}

// x and y, plus the two numbers of `old`, rounded.
__device__ __forceinline__ std::uint32_t rounded_sums(float x, float y, std::uint32_t old,
                                                      bool is_adding) {
  if (is_adding) {
    __nv_bfloat162 pair;
    memcpy(&pair, &old, sizeof(pair));
    const float2 before = __bfloat1622float2(pair);
    x = before.x + x;
    y = before.y + y;
  }
  const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
  std::uint32_t word = 0;
  memcpy(&word, &pair, sizeof(pair));
  return word;
}

// Rounds 64 x (2 kCount) sums of a warpgroup and writes them, a lane eight neighbours at a time,
// after what C holds was added, whose words take the same way to the lanes of the sums; all of a
// half are read before the first is written, so that the reads wait together.
template <int kCount>
__device__ __forceinline__ void write(const float (&d)[kCount], const Destination& to,
                                      __nv_bfloat16* c) {
  constexpr int kSteps = kCount / 16;  // 32 columns
  const int lane_column = to.column + static_cast<int>(threadIdx.x) % 4 * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = to.row + half * 8;
    __nv_bfloat16* const to_row = c + row * to.stride;
    std::uint32_t old[kSteps][4] = {};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int column = lane_column + i * 32;
      if (to.is_adding && row < to.row_end && column < to.columns) {
        load_words(to_row + column, old[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      if (to.is_adding) {
        transpose_quad(old[i]);
      }
      std::uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int element = (i * 4 + j) * 4 + half * 2;
        words[j] = rounded_sums(d[element], d[element + 1], old[i][j], to.is_adding);
      }
      transpose_quad(words);
      const int column = lane_column + i * 32;
      if (row < to.row_end && column < to.columns) {
        *reinterpret_cast<uint4*>(to_row + column) =
            make_uint4(words[0], words[1], words[2], words[3]);
      }
    }
  }
}

// Writes or adds them, a lane four neighbours at a time; all of a half are read before the first is
// written, so that the reads wait together.
template <int kCount>
__device__ __forceinline__ void write(const float (&d)[kCount], const Destination& to, float* c) {
  constexpr int kSteps = kCount / 8;  // 16 columns
  const int lane = static_cast<int>(threadIdx.x) % 4;
  const bool is_odd = lane % 2 != 0;
  const int lane_column = to.column + lane % 2 * 8 + lane / 2 * 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = to.row + half * 8;
    float* const to_row = c + row * to.stride;
    float4 old[kSteps] = {};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int column = lane_column + i * 16;
      if (to.is_adding && row < to.row_end && column < to.columns) {
        old[i] = load_in_place(to_row + column);
      }
    }
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int column = lane_column + i * 16;
      const float* const left = &d[i * 8 + half * 2];  // of the first eight columns, and the next
      const float x = __shfl_xor_sync(kAllLanes, is_odd ? left[0] : left[4], 1);
      const float y = __shfl_xor_sync(kAllLanes, is_odd ? left[1] : left[5], 1);
      const float4 sum =
          is_odd ? make_float4(x, y, left[4], left[5]) : make_float4(left[0], left[1], x, y);
      if (row < to.row_end && column < to.columns) {
        *reinterpret_cast<float4*>(to_row + column) =
            make_float4(old[i].x + sum.x, old[i].y + sum.y, old[i].z + sum.z, old[i].w + sum.w);
      }
    }
  }
}

// Sums that are added to C or overwrite it.
template <class Output>
struct Sums {
  Output* c = nullptr;
  std::int64_t stride = 0;  // from a row to the next

  template <class S>
  __device__ __forceinline__ void consume(const GroupedSizes& sizes, const Consumer& self,
                                          Ring<S> ring) const {
    typename S::Walk walk(sizes, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
    GroupedTile tile;
    for (unsigned index = 0; walk.next(tile); ++index) {
      if constexpr (!S::kShares) {
        if (static_cast<int>(index % kConsumers) != self.warpgroup) {
          ring.advance(tiles_of(tile.depth_end - tile.depth, kPanelDepth));
          continue;
        }
        ring.wait_begin(self.warpgroup, index / kConsumers);
      }
      typename S::Accumulator d = {};
      multiply<S>({tile.depth, tile.depth_end}, self, ring, d);
#pragma unroll
      for (int i = 0; i < S::kProducts; ++i) {
        write(d[i],
              {.row = tile.row + self.first_row<S>() + i * kProductRows + self.warp * 16 +
                      accumulator_row(self.lane),
               .row_end = tile.row_end,
               .column = tile.column,
               .columns = tile.column_end,
               .stride = stride,
               .is_adding = sizes.is_adding},
              c + (S::kIsWeight ? tile.expert * (sizes.out_size * stride) : 0));
      }
    }
  }
};

template <GroupedProduct kProduct, class Output>
void launch_sums(const GroupedOperands& operands, const GroupedSizes& sizes, Stream& stream) {
  const Sums<Output> sums{reinterpret_cast<Output*>(operands.c.data), operands.c.stride};
  if constexpr (kProduct != GroupedProduct::kBackwardWeight) {
    if (prefers_wide_tiles(sizes,
                           kProduct == GroupedProduct::kForward ? sizes.out_size : sizes.in_size,
                           num_multiprocessors(stream))) {
      launch_tensor_core<Shape<kProduct, 256, Tiles::kShared, false>>(operands, sizes, sums,
                                                                      stream);
      return;
    }
  }
  launch_tensor_core<Shape<kProduct, 128, Tiles::kInTurns, false>>(operands, sizes, sums, stream);
}

template <GroupedProduct kProduct>
void launch_activations(const GroupedOperands& operands, const GroupedSizes& sizes,
                        Stream& stream) {
  with_activation_type(operands.c.dtype, [&](auto output) {
    launch_sums<kProduct, typename decltype(output)::type>(operands, sizes, stream);
  });
}

}  // namespace
}  // namespace grouped

void grouped_product_sm90(GroupedProduct product, const GroupedOperands& operands,
                          const GroupedSizes& sizes, Stream& stream) {
  switch (product) {
    case GroupedProduct::kForward:
      grouped::launch_activations<GroupedProduct::kForward>(operands, sizes, stream);
      break;
    case GroupedProduct::kBackwardInput:
      grouped::launch_activations<GroupedProduct::kBackwardInput>(operands, sizes, stream);
      break;
    case GroupedProduct::kBackwardWeight:
      grouped::launch_sums<GroupedProduct::kBackwardWeight, float>(operands, sizes, stream);
      break;
  }
}

}  // namespace fathom::kernels::cuda
