#include <algorithm>

#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/scan.cuh"
#include "kernels/permute.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

// A counting sort: tiles of slots are counted by expert, the counts are scanned, and each tile puts
// its slots behind those of the tiles before it, in order. No slot is placed by an atomic.
constexpr int kWarps = 8;  // of a block
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kSteps = 8;  // in which a warp takes its slots, 32 at a time
constexpr int kWarpSlots = kSteps * kWarpSize;
constexpr int kTileSlots = kWarps * kWarpSlots;
constexpr int kMaxExperts = 1024;  // what the counts of a block's warps leave room for

struct Sort {
  const std::int32_t* expert_ids;
  std::int64_t* counts;       // [num_experts]
  std::int32_t* tile_counts;  // [num_experts, num_tiles]; after the scan those of the tiles before
  std::int32_t* slot_of_row;
  std::int32_t* row_of_slot;
  std::int64_t num_slots;
  std::int64_t num_tiles;
  int num_experts;
};

// An id outside counts as the last expert: a kernel cannot refuse it, and memory stays safe.
__device__ __forceinline__ int expert_at(const Sort& sort, std::int64_t slot) {
  const int expert = sort.expert_ids[slot];
  return expert >= 0 && expert < sort.num_experts ? expert : sort.num_experts - 1;
}

// The first slot of this warp in its step.
__device__ __forceinline__ std::int64_t slot_of_step(int step) {
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  return std::int64_t{blockIdx.x} * kTileSlots + warp * kWarpSlots + step * kWarpSize +
         threadIdx.x % kWarpSize;
}

__global__ void __launch_bounds__(kThreads) count_tiles(Sort sort) {
  __shared__ int counts[kMaxExperts];
  for (int expert = static_cast<int>(threadIdx.x); expert < sort.num_experts; expert += kThreads) {
    counts[expert] = 0;
  }
  __syncthreads();
  for (int step = 0; step < kSteps; ++step) {
    const std::int64_t slot = slot_of_step(step);
    if (slot < sort.num_slots) {
      atomicAdd(&counts[expert_at(sort, slot)], 1);
    }
  }
  __syncthreads();
  for (int expert = static_cast<int>(threadIdx.x); expert < sort.num_experts; expert += kThreads) {
    sort.tile_counts[expert * sort.num_tiles + blockIdx.x] = counts[expert];
  }
}

// A warp an expert: its counts become the sums of those of the tiles before.
__global__ void __launch_bounds__(kThreads) scan_tiles(Sort sort) {
  const int expert =
      static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  if (expert >= sort.num_experts) {
    return;
  }
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  int total = 0;
  for (std::int64_t first = 0; first < sort.num_tiles; first += kWarpSize) {
    const std::int64_t tile = first + lane;
    std::int32_t* place = sort.tile_counts + expert * sort.num_tiles + tile;
    const int count = tile < sort.num_tiles ? *place : 0;
    const int sum = inclusive_scan_warp(count);
    if (tile < sort.num_tiles) {
      *place = total + sum - count;
    }
    total += __shfl_sync(kAllLanes, sum, kWarpSize - 1);
  }
  if (lane == 0) {
    sort.counts[expert] = total;
  }
}

using NextRows = int[kWarps][kMaxExperts];

// next_row[warp][expert], the warp's number of slots of the expert on entry, becomes the row of the
// first of them.
__device__ void scan_warps(const Sort& sort, NextRows& next_row) {
  constexpr int kPerThread = kMaxExperts / kThreads;
  const int first = static_cast<int>(threadIdx.x) * kPerThread;
  int counts[kPerThread];
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    counts[i] = first + i < sort.num_experts ? static_cast<int>(sort.counts[first + i]) : 0;
    sum += counts[i];
  }
  int first_row = inclusive_scan_block<kThreads>(sum) - sum;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int expert = first + i;
    if (expert < sort.num_experts) {
      int row = first_row + sort.tile_counts[expert * sort.num_tiles + blockIdx.x];
      for (int warp = 0; warp < kWarps; ++warp) {
        const int count = next_row[warp][expert];
        next_row[warp][expert] = row;
        row += count;
      }
    }
    first_row += counts[i];
  }
}

__global__ void __launch_bounds__(kThreads) place_slots(Sort sort) {
  __shared__ NextRows next_row;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int i = static_cast<int>(threadIdx.x); i < kWarps * kMaxExperts; i += kThreads) {
    (&next_row[0][0])[i] = 0;
  }
  __syncthreads();
  int experts[kSteps];  // -1 beyond the last slot
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const std::int64_t slot = slot_of_step(step);
    experts[step] = slot < sort.num_slots ? expert_at(sort, slot) : -1;
    if (experts[step] >= 0) {
      atomicAdd(&next_row[warp][experts[step]], 1);
    }
  }
  __syncthreads();
  scan_warps(sort, next_row);
  __syncthreads();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const std::int64_t slot = slot_of_step(step);
    const int expert = experts[step];
    const unsigned peers = __match_any_sync(kAllLanes, expert);
    const int num_before = __popc(peers & ((1U << lane) - 1));
    int row = 0;
    if (expert >= 0) {
      row = next_row[warp][expert] + num_before;
      sort.slot_of_row[row] = static_cast<std::int32_t>(slot);
      sort.row_of_slot[slot] = row;
    }
    __syncwarp();
    if (expert >= 0 && num_before == 0) {
      next_row[warp][expert] = row + __popc(peers);
    }
    __syncwarp();
  }
}

void sort_slots_cuda(const Tensor& expert_ids, Tensor& counts, Tensor& slot_of_row,
                     Tensor& row_of_slot, Stream& stream) {
  const std::int64_t num_experts = counts.numel();
  FATHOM_CHECK(num_experts <= kMaxExperts, "slots of ", num_experts,
               " experts: CUDA sorts those of up to ", kMaxExperts);
  const std::int64_t num_tiles = blocks_for(expert_ids.numel(), kTileSlots);
  Tensor tile_counts = Tensor::empty(Shape{num_experts, std::max<std::int64_t>(num_tiles, 1)},
                                     DType::kInt32, stream);
  const Sort sort{device_data<std::int32_t>(expert_ids),
                  device_data<std::int64_t>(counts),
                  device_data<std::int32_t>(tile_counts),
                  device_data<std::int32_t>(slot_of_row),
                  device_data<std::int32_t>(row_of_slot),
                  expert_ids.numel(),
                  num_tiles,
                  static_cast<int>(num_experts)};
  launch(count_tiles, {num_tiles, kThreads}, stream, sort);
  launch(scan_tiles, {blocks_for(num_experts, kWarps), kThreads}, stream, sort);
  launch(place_slots, {num_tiles, kThreads}, stream, sort);
}

const KernelRegistration register_sort_slots(sort_slots_slot, DeviceType::kCuda, sort_slots_cuda);

}  // namespace
}  // namespace fathom::kernels
