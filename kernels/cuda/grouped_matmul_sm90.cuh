#pragma once

#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/grouped_product.h"
#include "kernels/cuda/multiprocessors.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/sm90.cuh"
#include "kernels/cuda/tensor_map.h"

// Grouped products of bfloat16 on the tensor cores. A block stays on its multiprocessor and walks
// the tile list. One thread of the last warpgroup loads panels of A and B, 64 deep, into a ring of
// stages in shared memory; the other two warpgroups multiply them and write what the sums are for.

namespace fathom::kernels::cuda::grouped {

inline constexpr int kWarpgroupThreads = 128;
inline constexpr int kConsumers = 2;  // warpgroups
inline constexpr int kThreads = (kConsumers + 1) * kWarpgroupThreads;
inline constexpr int kProducerRegisters = 40;  // together the 64 Ki of a multiprocessor
inline constexpr int kConsumerRegisters = 232;
inline constexpr int kTileRows = 128;
inline constexpr int kProductRows = 64;  // of one wgmma

// How the two warpgroups go through the tiles: in turns, so that one writes while the other
// multiplies, or sharing each one, so that A is read half as often for the same accumulators.
enum class Tiles { kInTurns, kShared };

// Tiles of 128 x kTileColumns; a sum is over all of a tile's depth or, with kSumsByPart, one
// part's.
template <GroupedProduct kGroupedProduct, int kTileColumns, Tiles kTiles, bool kSumsByPart>
struct Shape {
  static constexpr GroupedProduct kProduct = kGroupedProduct;
  static constexpr int kColumns = kTileColumns;
  static constexpr bool kIsWeight = kProduct == GroupedProduct::kBackwardWeight;
  static constexpr Major kA = kIsWeight ? Major::kMN : Major::kK;
  static constexpr Major kB = kProduct == GroupedProduct::kForward ? Major::kK : Major::kMN;
  static constexpr bool kShares = kTiles == Tiles::kShared;
  static constexpr int kTileWarpgroups = kShares ? kConsumers : 1;
  static constexpr int kProducts = kTileRows / kProductRows / kTileWarpgroups;  // of a warpgroup
  static constexpr int kABytes = kTileRows * kRowBytes;
  static constexpr int kStageBytes = kABytes + kColumns * kRowBytes;
  static constexpr int kStages = kColumns > kTileRows ? 4 : 6;
  static constexpr int kBarriers = 2 * kStages + kConsumers;
  static constexpr int kBarrierBytes = kBarriers * static_cast<int>(sizeof(std::uint64_t));
  static constexpr int kSharedBytes = kAtomBytes + kStages * kStageBytes + kBarrierBytes;
  using Walk = TileWalk<kProduct, kTileRows, kColumns>;
  using Ranges = DepthWalk<kSumsByPart>;
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
__device__ __forceinline__ void load_range(const CUtensorMap& a_map, const CUtensorMap& b_map,
                                           const GroupedTile& tile, const DepthRange& range,
                                           Ring<S>& ring) {
  const int matrix_of_b = S::kIsWeight ? 0 : tile.expert;
  for (int depth = range.begin; depth < range.end; depth += kPanelDepth) {
    ring.wait_empty();
    mbarrier_arrive_expect(ring.full(), S::kStageBytes);
    load_panel<S::kA, kTileRows>(a_map, ring.full(), ring.a(), tile.row, depth, 0);
    load_panel<S::kB, S::kColumns>(b_map, ring.full(), ring.b(), tile.column, depth, matrix_of_b);
    ring.advance(1);
  }
}

template <class S>
__device__ __forceinline__ void produce(const CUtensorMap& a_map, const CUtensorMap& b_map,
                                        const GroupedSizes& sizes, Ring<S> ring) {
  prefetch_tensor_map(a_map);
  prefetch_tensor_map(b_map);
  typename S::Walk walk(sizes, static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
  for (GroupedTile tile; walk.next(tile);) {
    typename S::Ranges ranges(sizes, tile);
    for (DepthRange range; ranges.next(range);) {
      load_range(a_map, b_map, tile, range, ring);
    }
  }
}

// A thread's place among those that multiply.
struct Consumer {
  int warpgroup = 0;
  int warp = 0;  // of the warpgroup
  int lane = 0;
  // The first row of the warpgroup's part of a tile.
  template <class S>
  __device__ int first_row() const {
    return S::kShares ? warpgroup * kProductRows : 0;
  }
};

// Zeroes what the boxes that a warpgroup reads of a stage hold from row `first_row` on: tokens of
// another sum. Both operands', since zero times NaN is not zero. Warpgroups that share a tile both
// zero all of B, so that neither waits for the other.
template <class S>
__device__ __forceinline__ void zero_tail(const Ring<S>& ring, int first_row,
                                          const Consumer& self) {
  static_assert(S::kA == Major::kMN && S::kB == Major::kMN);
  constexpr int kWordsOfRow = kRowBytes / static_cast<int>(sizeof(uint4));
  constexpr int kBoxesOfA = S::kProducts * kProductRows / kBoxColumns;
  constexpr int kBoxes = kBoxesOfA + S::kColumns / kBoxColumns;
  const int words_of_box = (kPanelDepth - first_row) * kWordsOfRow;
  std::byte* const a = ring.a() + self.first_row<S>() / kBoxColumns * kMNBoxBytes;
  for (int box = 0; box < kBoxes; ++box) {
    auto* const words = reinterpret_cast<uint4*>(
        box < kBoxesOfA ? a + box * kMNBoxBytes : ring.b() + (box - kBoxesOfA) * kMNBoxBytes);
    for (int i = static_cast<int>(threadIdx.x) % kWarpgroupThreads; i < words_of_box;
         i += kWarpgroupThreads) {
      words[first_row * kWordsOfRow + i] = make_uint4(0, 0, 0, 0);
    }
  }
  async_proxy_fence();
  sync_named_barrier(1 + self.warpgroup, kWarpgroupThreads);
}

// Issues the products of a stage.
template <class S>
__device__ __forceinline__ void multiply_panel(const Ring<S>& ring, const Consumer& self,
                                               typename S::Accumulator& d) {
  const int first_row = self.first_row<S>();
  const std::uint32_t a = shared_address(ring.a());
  const std::uint32_t b = shared_address(ring.b());
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kPanelDepth; k += 16) {
#pragma unroll
    for (int i = 0; i < S::kProducts; ++i) {
      wgmma<S::kColumns, S::kA, S::kB>(d[i],
                                       panel_descriptor<S::kA>(a, first_row + i * kProductRows, k),
                                       panel_descriptor<S::kB>(b, 0, k));
    }
  }
  wgmma_commit();
}

// d = the sum over a range of a tile's depth; done when it returns.
template <class S>
__device__ __forceinline__ void multiply(const DepthRange& range, const Consumer& self,
                                         Ring<S>& ring, typename S::Accumulator& d) {
#pragma unroll
  for (int i = 0; i < S::kProducts; ++i) {
    hold_accumulator(d[i]);
  }
  for (int depth = range.begin; depth < range.end; depth += kPanelDepth) {
    ring.wait_full();
    if constexpr (S::kIsWeight) {
      if (range.end - depth < kPanelDepth) {
        zero_tail<S>(ring, range.end - depth, self);
      }
    }
    multiply_panel<S>(ring, self, d);
    if (depth > range.begin) {
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
  if (self.lane == 0 && range.begin < range.end) {
    ring.release(1);
  }
#pragma unroll
  for (int i = 0; i < S::kProducts; ++i) {
    hold_accumulator(d[i]);
  }
}

// Target is what becomes of the sums: a struct with
//   consume<S>(sizes, self, ring): what a thread of the warpgroups that multiply does.
template <class S, class Target>
__global__ void __launch_bounds__(kThreads, 1)
    tensor_core(const __grid_constant__ CUtensorMap a_map,
                const __grid_constant__ CUtensorMap b_map, GroupedSizes sizes, Target target) {
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
    target.template consume<S>(sizes, {.warpgroup = warpgroup, .warp = warp % 4, .lane = lane},
                               ring);
  }
}

template <class S, class Target>
void launch_tensor_core(const GroupedOperands& operands, const GroupedSizes& sizes,
                        const Target& target, Stream& stream) {
  constexpr bool kIsForward = S::kProduct == GroupedProduct::kForward;
  const MatrixStack a{.data = operands.a.data,
                      .num_rows = sizes.num_tokens,
                      .num_columns = kIsForward ? sizes.in_size : sizes.out_size,
                      .row_stride = operands.a.stride};
  const MatrixStack b{.data = operands.b.data,
                      .num_matrices = S::kIsWeight ? 1 : sizes.num_experts,
                      .num_rows = S::kIsWeight ? sizes.num_tokens : sizes.out_size,
                      .num_columns = sizes.in_size,
                      .row_stride = operands.b.stride};
  const auto box_rows = [](Major major, int indices) {
    return major == Major::kK ? indices : kPanelDepth;
  };
  const std::int64_t num_blocks = std::min<std::int64_t>(
      most_tiles<S::kProduct, kTileRows, S::kColumns>(sizes), num_multiprocessors(stream));
  launch(tensor_core<S, Target>, {num_blocks, kThreads, S::kSharedBytes}, stream,
         tensor_map(a, box_rows(S::kA, kTileRows), stream),
         tensor_map(b, box_rows(S::kB, S::kColumns), stream), sizes, target);
}

}  // namespace fathom::kernels::cuda::grouped
