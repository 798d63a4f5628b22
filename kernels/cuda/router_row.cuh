#pragma once

#include <type_traits>

#include "core/error.h"
#include "kernels/cuda/reduce.cuh"

// What the router's kernels do with the numbers of one token. A warp takes a token; lane l holds
// expert i * 32 + l in place i of an array of kPerLane, for up to 32 * kPerLane experts.
namespace fathom::kernels::cuda {

// One token's numbers in shared memory, with a gap every 32: lanes that each walk a group of 32
// experts then meet different banks.
template <class T, int kPerLane>
struct SharedRow {
  T values[kPerLane * (kWarpSize + 1)];
  __device__ __forceinline__ T& operator[](int expert) {
    return values[expert + expert / kWarpSize];
  }
};

__device__ __forceinline__ int lane_of_thread() {
  return static_cast<int>(threadIdx.x) % kWarpSize;
}
__device__ __forceinline__ int expert_of(int i) { return i * kWarpSize + lane_of_thread(); }

// No candidate: below all that are.
__device__ __forceinline__ float excluded() { return __int_as_float(0xff800000); }

// Unsigned numbers in the order of floats, equal ones for the two zeros; 0 for -inf and NaN, which
// are no candidates, and more for all others.
__device__ __forceinline__ unsigned ordered_candidate(float value) {
  if (!(value > excluded())) {
    return 0;
  }
  const unsigned bits = __float_as_uint(value + 0.0F);  // -0 becomes 0
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

// Bit i of the result: the value of place i is among the `count` largest candidates of the warp,
// the lower index first among equals. `is_complete` says whether there are as many.
template <int kPerLane>
__device__ __forceinline__ unsigned choose_largest(const float (&values)[kPerLane], int count,
                                                   bool& is_complete) {
  unsigned candidates[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    candidates[i] = ordered_candidate(values[i]);
  }
  unsigned chosen = 0;
  for (int j = 0; j < count; ++j) {
    unsigned best = 0;
    int place = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      place = candidates[i] > best ? i : place;
      best = candidates[i] > best ? candidates[i] : best;
    }
    const unsigned largest = __reduce_max_sync(kAllLanes, best);
    if (largest == 0) {
      is_complete = false;
      return chosen;
    }
    const auto here = static_cast<unsigned>(expert_of(place));
    const unsigned first = __reduce_min_sync(kAllLanes, best == largest ? here : ~0U);
    if (here == first && best == largest) {
      chosen |= 1U << place;
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) {
        candidates[i] = i == place ? 0 : candidates[i];
      }
    }
  }
  is_complete = true;
  return chosen;
}

// Calls body(expert, slot) for the chosen experts of this lane, slots in ascending order of
// experts.
template <int kPerLane, class Body>
__device__ __forceinline__ void for_each_chosen(unsigned chosen, const Body& body) {
  const unsigned lanes_before = (1U << lane_of_thread()) - 1;
  int first_slot = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const bool is_chosen = (chosen >> i & 1U) != 0;
    const unsigned lanes = __ballot_sync(kAllLanes, is_chosen);
    if (is_chosen) {
      body(expert_of(i), first_slot + __popc(lanes & lanes_before));
    }
    first_slot += __popc(lanes);
  }
}

template <int kPerLane>
__device__ __forceinline__ float sum_of(const float (&values)[kPerLane]) {
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    sum += values[i];
  }
  return reduce_warp<Sum>(sum);
}

// values[i] = row[expert], `beyond` past the last expert.
template <int kPerLane>
__device__ __forceinline__ void load_row(const float* row, int num_experts, float beyond,
                                         float (&values)[kPerLane]) {
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    values[i] = expert_of(i) < num_experts ? row[expert_of(i)] : beyond;
  }
}
// Row: float* or SharedRow.
template <int kPerLane, class Row>
__device__ __forceinline__ void store_row(const float (&values)[kPerLane], int num_experts,
                                          Row&& row) {
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (expert_of(i) < num_experts) {
      row[expert_of(i)] = values[i];
    }
  }
}

// Calls body(std::integral_constant kPerLane) for the smallest that holds the experts.
template <class Body>
void with_places_per_lane(int num_experts, const Body& body) {
  if (num_experts <= 32) {
    body(std::integral_constant<int, 1>());
  } else if (num_experts <= 64) {
    body(std::integral_constant<int, 2>());
  } else if (num_experts <= 128) {
    body(std::integral_constant<int, 4>());
  } else if (num_experts <= 256) {
    body(std::integral_constant<int, 8>());
  } else {
    FATHOM_CHECK(num_experts <= 512, num_experts, " experts: CUDA routes to up to 512");
    body(std::integral_constant<int, 16>());
  }
}

}  // namespace fathom::kernels::cuda
