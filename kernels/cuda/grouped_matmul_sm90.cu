#include <type_traits>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/grouped_matmul.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/sm90.cuh"
#include "kernels/cuda/tensor_map.h"

// Grouped products of bfloat16 on the tensor cores. A block stays on its multiprocessor and walks
// the tile list. One thread of the last warpgroup loads panels of A and B, 64 deep, into a ring of
// stages in shared memory; the other two warpgroups multiply them.

namespace fathom::kernels::cuda {
namespace {

constexpr int kWarpgroupThreads = 128;
constexpr int kConsumers = 2;  // warpgroups
constexpr int kThreads = (kConsumers + 1) * kWarpgroupThreads;
constexpr int kProducerRegisters = 40;  // together the 64 Ki of a multiprocessor
constexpr int kConsumerRegisters = 232;
constexpr int kTileRows = 128;
constexpr int kProductRows = 64;  // of one wgmma

// Tiles of 128 x kColumns: 128 columns, and the warpgroups take tiles in turns, so that one writes
// while the other multiplies; or 256, and they share each tile, so that A is read half as often.
template <GroupedProduct kGroupedProduct, int kTileColumns>
struct Shape {
  static constexpr GroupedProduct kProduct = kGroupedProduct;
  static constexpr int kColumns = kTileColumns;
  static constexpr bool kIsWeight = kProduct == GroupedProduct::kBackwardWeight;
  static constexpr Major kA = kIsWeight ? Major::kMN : Major::kK;
  static constexpr Major kB = kProduct == GroupedProduct::kForward ? Major::kK : Major::kMN;
  static constexpr bool kShares = kColumns > kTileRows;
  static constexpr int kTileWarpgroups = kShares ? kConsumers : 1;
  static constexpr int kProducts = kTileRows / kProductRows / kTileWarpgroups;  // of a warpgroup
  static constexpr int kABytes = kTileRows * kRowBytes;
  static constexpr int kStageBytes = kABytes + kColumns * kRowBytes;
  static constexpr int kStages = kShares ? 4 : 6;
  static constexpr int kBarriers = 2 * kStages + kConsumers;
  static constexpr int kBarrierBytes = kBarriers * static_cast<int>(sizeof(std::uint64_t));
  static constexpr int kSharedBytes = kAtomBytes + kStages * kStageBytes + kBarrierBytes;
  using Output = std::conditional_t<kIsWeight, float, __nv_bfloat16>;
  using Walk = TileWalk<kProduct, kTileRows, kColumns>;
  using Accumulator = float[kProducts][kColumns / 2];
};

// The stages in turn. A stage's two barriers: `full` when its panels are there, `empty` when the
// products that read them are done. Warpgroups that take tiles in turns begin one after the other:
// without that, the later one could take a stage for full that has a round of panels of the other
// before it, since a barrier tells only odd rounds from even ones.
template <class S>
class Ring {
 public:
  __device__ explicit Ring(std::byte* shared) {
    const unsigned past = shared_address(shared) % kAtomBytes;
    stages_ = shared + (past == 0 ? 0 : kAtomBytes - past);
    barriers_ = reinterpret_cast<std::uint64_t*>(stages_ + S::kStages * S::kStageBytes);
  }
  __device__ void init() const {
    constexpr int kWarpsOfTile = S::kTileWarpgroups * kWarpgroupThreads / 32;
    for (int stage = 0; stage < S::kStages; ++stage) {
      mbarrier_init(barriers_ + stage, 1);
      mbarrier_init(barriers_ + S::kStages + stage, kWarpsOfTile);
    }
    for (int warpgroup = 0; warpgroup < kConsumers; ++warpgroup) {
      mbarrier_init(begin(warpgroup), kWarpsOfTile);
    }
    mbarrier_init_fence();
  }

  __device__ std::byte* a() const { return stages_ + stage() * S::kStageBytes; }
  __device__ std::byte* b() const { return a() + S::kABytes; }
  __device__ std::uint64_t* full() const { return barriers_ + stage(); }
  __device__ void wait_full() const { mbarrier_wait(full(), turn() % 2); }
  __device__ void wait_empty() const { mbarrier_wait(empty(0), turn() % 2 ^ 1U); }
  // The stage of `back` panels ago may be filled again; called by one lane of each warp.
  __device__ void release(unsigned back) const { mbarrier_arrive(empty(back)); }
  // Before the panels of a warpgroup's tile `index`, and when those of the tile are all there.
  __device__ void wait_begin(int warpgroup, unsigned index) const {
    mbarrier_wait(begin(warpgroup), index % 2 ^ (warpgroup == 0 ? 1U : 0U));
  }
  __device__ void let_other_begin(int warpgroup) const { mbarrier_arrive(begin(1 - warpgroup)); }
  __device__ void advance(int num_panels) { place_ += static_cast<unsigned>(num_panels); }

 private:
  __device__ unsigned stage() const { return place_ % S::kStages; }
  __device__ unsigned turn() const { return place_ / S::kStages; }
  __device__ std::uint64_t* empty(unsigned back) const {
    return barriers_ + S::kStages + (place_ - back) % S::kStages;
  }
  __device__ std::uint64_t* begin(int warpgroup) const {
    return barriers_ + 2 * S::kStages + warpgroup;
  }

  std::byte* stages_;
  std::uint64_t* barriers_;
  unsigned place_ = 0;  // how many panels came before
};

// A panel of kIndices from (index, depth) on.
template <Major kMajor, int kIndices>
__device__ __forceinline__ void load_panel(const CUtensorMap& map, std::uint64_t* barrier,
                                           std::byte* to, int index, int depth, int matrix) {
  if constexpr (kMajor == Major::kK) {
    load_box(map, barrier, to, depth, index, matrix);
  } else {
#pragma unroll
    for (int i = 0; i < kIndices / kBoxColumns; ++i) {
      load_box(map, barrier, to + i * kMNBoxBytes, index + i * kBoxColumns, depth, matrix);
    }
  }
}

template <class S>
__device__ __forceinline__ void produce(const CUtensorMap& a_map, const CUtensorMap& b_map,
                                        const GroupedSizes& sizes, Ring<S> ring) {
  prefetch_tensor_map(a_map);
  prefetch_tensor_map(b_map);
  typename S::Walk walk(sizes, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
  for (GroupedTile tile; walk.next(tile);) {
    const int matrix_of_b = S::kIsWeight ? 0 : tile.expert;
    for (int depth = tile.depth; depth < tile.depth_end; depth += kPanelDepth) {
      ring.wait_empty();
      mbarrier_arrive_expect(ring.full(), S::kStageBytes);
      load_panel<S::kA, kTileRows>(a_map, ring.full(), ring.a(), tile.row, depth, 0);
      load_panel<S::kB, S::kColumns>(b_map, ring.full(), ring.b(), tile.column, depth, matrix_of_b);
      ring.advance(1);
    }
  }
}

// Zeroes what a stage's boxes hold from row `first_row` on: tokens of the next expert. Both
// operands', since zero times NaN is not zero. The threads that share the tile take part.
template <class S>
__device__ __forceinline__ void zero_tail(std::byte* stage, int first_row, int barrier) {
  static_assert(S::kA == Major::kMN && S::kB == Major::kMN && !S::kShares);
  constexpr int kWordsOfRow = kRowBytes / static_cast<int>(sizeof(uint4));
  const int words_of_box = (kPanelDepth - first_row) * kWordsOfRow;
  auto* const words = reinterpret_cast<uint4*>(stage);
  for (int box = 0; box < S::kStageBytes / kMNBoxBytes; ++box) {
    for (int i = static_cast<int>(threadIdx.x) % kWarpgroupThreads; i < words_of_box;
         i += kWarpgroupThreads) {
      words[(box * kPanelDepth + first_row) * kWordsOfRow + i] = make_uint4(0, 0, 0, 0);
    }
  }
  async_proxy_fence();
  sync_named_barrier(barrier, kWarpgroupThreads);
}

// A thread's place among those that multiply.
struct Consumer {
  int warpgroup = 0;
  int warp = 0;  // of the warpgroup
  int lane = 0;
};

// Adds the products of one tile's panels to d, of the rows of A from first_row on.
template <class S>
__device__ __forceinline__ void multiply(const GroupedTile& tile, int first_row,
                                         const Consumer& self, Ring<S>& ring,
                                         typename S::Accumulator& d) {
  for (int depth = tile.depth; depth < tile.depth_end; depth += kPanelDepth) {
    ring.wait_full();
    if constexpr (S::kIsWeight) {
      if (tile.depth_end - depth < kPanelDepth) {
        zero_tail<S>(ring.a(), tile.depth_end - depth, 1 + self.warpgroup);
      }
    }
    const std::uint32_t a = shared_address(ring.a());
    const std::uint32_t b = shared_address(ring.b());
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < kPanelDepth; k += 16) {
#pragma unroll
      for (int i = 0; i < S::kProducts; ++i) {
        wgmma<S::kColumns, S::kA, S::kB>(
            d[i], panel_descriptor<S::kA>(a, first_row + i * kProductRows, k),
            panel_descriptor<S::kB>(b, 0, k));
      }
    }
    wgmma_commit();
    if (depth > tile.depth) {
      wgmma_wait<1>();  // the products before these, so that these need not wait to begin
      if (self.lane == 0) {
        ring.release(1);
      }
    }
    ring.advance(1);
  }
  if (!S::kShares && self.lane == 0) {
    ring.let_other_begin(self.warpgroup);
  }
  wgmma_wait<0>();
  if (self.lane == 0 && tile.depth < tile.depth_end) {
    ring.release(1);
  }
}

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

// Where a lane's part of a tile goes: C is row-major with rows of `columns` elements.
struct Destination {
  int row = 0;  // of the lane's first element
  int row_end = 0;
  int column = 0;  // of the tile's first element
  int columns = 0;
  bool is_adding = false;  // to what is there
};

// Rounds 64 x (2 kCount) sums of a warpgroup and writes them, a lane eight neighbours at a time.
template <int kCount>
__device__ __forceinline__ void write(const float (&d)[kCount], const Destination& to,
                                      __nv_bfloat16* c) {
  const int lane_column = to.column + static_cast<int>(threadIdx.x) % 4 * 8;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = to.row + half * 8;
    __nv_bfloat16* const to_row = c + std::int64_t{row} * to.columns;
#pragma unroll
    for (int i = 0; i < kCount / 16; ++i) {  // 32 columns
      std::uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int element = (i * 4 + j) * 4 + half * 2;
        const __nv_bfloat162 pair = __floats2bfloat162_rn(d[element], d[element + 1]);
        memcpy(&words[j], &pair, sizeof(pair));
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
    float* const to_row = c + std::int64_t{row} * to.columns;
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

template <class S>
__device__ __forceinline__ void consume(const GroupedSizes& sizes, typename S::Output* c,
                                        const Consumer& self, Ring<S> ring) {
  const int first_row = S::kShares ? self.warpgroup * kProductRows : 0;
  const std::int64_t expert_stride =
      S::kIsWeight ? std::int64_t{sizes.out_size} * sizes.in_size : 0;
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
#pragma unroll
    for (int i = 0; i < S::kProducts; ++i) {
      hold_accumulator(d[i]);
    }
    multiply<S>(tile, first_row, self, ring, d);
#pragma unroll
    for (int i = 0; i < S::kProducts; ++i) {
      hold_accumulator(d[i]);
      write(d[i],
            {.row = tile.row + first_row + i * kProductRows + self.warp * 16 +
                    accumulator_row(self.lane),
             .row_end = tile.row_end,
             .column = tile.column,
             .columns = tile.column_end,
             .is_adding = sizes.is_adding},
            c + tile.expert * expert_stride);
    }
  }
}

template <class S>
__global__ void __launch_bounds__(kThreads, 1)
    tensor_core(const __grid_constant__ CUtensorMap a_map,
                const __grid_constant__ CUtensorMap b_map, GroupedSizes sizes,
                typename S::Output* c) {
  const Ring<S> ring(dynamic_shared());
  if (threadIdx.x == 0) {
    ring.init();
  }
  __syncthreads();
  // The same for all lanes, and through the shuffle the compiler knows it.
  const int warp = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x) / kWarpSize, 0);
  const int warpgroup = warp / 4;
  if (warpgroup == kConsumers) {
    lower_registers<kProducerRegisters>();
    if (threadIdx.x == kConsumers * kWarpgroupThreads) {
      produce<S>(a_map, b_map, sizes, ring);
    }
  } else {
    raise_registers<kConsumerRegisters>();
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    consume<S>(sizes, c, {.warpgroup = warpgroup, .warp = warp % 4, .lane = lane}, ring);
  }
}

template <class S>
void launch_tensor_core(const GroupedOperands<__nv_bfloat16>& operands, const GroupedSizes& sizes,
                        Stream& stream) {
  constexpr bool kIsForward = S::kProduct == GroupedProduct::kForward;
  const MatrixStack a{.data = operands.a,
                      .num_rows = sizes.num_tokens,
                      .num_columns = kIsForward ? sizes.in_size : sizes.out_size};
  const MatrixStack b{.data = operands.b,
                      .num_matrices = S::kIsWeight ? 1 : sizes.num_experts,
                      .num_rows = S::kIsWeight ? sizes.num_tokens : sizes.out_size,
                      .num_columns = sizes.in_size};
  const auto box_rows = [](Major major, int indices) {
    return major == Major::kK ? indices : kPanelDepth;
  };
  const std::int64_t num_blocks = std::min<std::int64_t>(
      most_tiles<S::kProduct, kTileRows, S::kColumns>(sizes), num_multiprocessors(stream));
  launch(tensor_core<S>, {num_blocks, kThreads, S::kSharedBytes}, stream,
         tensor_map(a, box_rows(S::kA, kTileRows), stream),
         tensor_map(b, box_rows(S::kB, S::kColumns), stream), sizes,
         static_cast<typename S::Output*>(operands.c));
}

}  // namespace

template <GroupedProduct kProduct>
void grouped_product_sm90(const GroupedOperands<__nv_bfloat16>& operands, const GroupedSizes& sizes,
                          Stream& stream) {
  if constexpr (kProduct != GroupedProduct::kBackwardWeight) {
    if (prefers_wide_tiles(sizes,
                           kProduct == GroupedProduct::kForward ? sizes.out_size : sizes.in_size,
                           num_multiprocessors(stream))) {
      launch_tensor_core<Shape<kProduct, 256>>(operands, sizes, stream);
      return;
    }
  }
  launch_tensor_core<Shape<kProduct, 128>>(operands, sizes, stream);
}

template void grouped_product_sm90<GroupedProduct::kForward>(const GroupedOperands<__nv_bfloat16>&,
                                                             const GroupedSizes&, Stream&);
template void grouped_product_sm90<GroupedProduct::kBackwardInput>(
    const GroupedOperands<__nv_bfloat16>&, const GroupedSizes&, Stream&);
template void grouped_product_sm90<GroupedProduct::kBackwardWeight>(
    const GroupedOperands<__nv_bfloat16>&, const GroupedSizes&, Stream&);

}  // namespace fathom::kernels::cuda
