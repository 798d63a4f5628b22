#include "core/cuda/launch.cuh"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/router_row.cuh"
#include "kernels/router.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 4;  // of a block
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kWarpTokens = 8;  // whose statistics a warp gathers before it adds them to memory

__device__ __forceinline__ std::int64_t warp_of_grid() {
  return std::int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
}
__device__ __forceinline__ std::int64_t thread_of_grid() {
  return std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
}

// Atomic, and the same in every order: these are integers.
__device__ __forceinline__ void add_to(std::int64_t* sum, std::int64_t term) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(term));
}

// ++counts[place], for all lanes of a warp at once; not for a negative place.
__device__ __forceinline__ void count(std::int64_t* counts, long long place) {
  const unsigned peers = __match_any_sync(kAllLanes, place);
  if (place >= 0 && lane_of_thread() == __ffs(static_cast<int>(peers)) - 1) {
    add_to(counts + place, __popc(peers));
  }
}

struct CountTask {
  const std::int32_t* expert_ids;
  std::int64_t num_slots;
  std::int64_t slots_of_unit;
  std::int64_t* counts;
  std::int64_t num_experts;
  std::int64_t num_units;
};

// A thread a slot.
__global__ void __launch_bounds__(kThreads) count_ids(CountTask task) {
  const std::int64_t slot = thread_of_grid();
  const std::int32_t expert = slot < task.num_slots ? task.expert_ids[slot] : -1;
  const bool is_counted = expert >= 0 && expert < task.num_experts;
  count(task.counts, is_counted ? expert * task.num_units + slot / task.slots_of_unit : -1);
}

struct SelectionTask {
  const std::int32_t* expert_ids;
  const std::int32_t* sequence_ids;
  std::int64_t* selected_counts;
  std::int64_t* group_token_counts;
  std::int64_t num_slots;
  std::int32_t top_k;
  std::int32_t num_sequences;
  std::int32_t num_experts;
  std::int32_t num_groups;
};

// A thread a slot.
__global__ void __launch_bounds__(kThreads) count_selection(SelectionTask task) {
  const std::int64_t slot = thread_of_grid();
  long long expert_place = -1;
  long long group_place = -1;
  if (slot < task.num_slots) {
    const std::int64_t token = slot / task.top_k;
    const std::int64_t sequence = task.sequence_ids[token];
    const std::int32_t expert = task.expert_ids[slot];
    if (sequence >= 0 && sequence < task.num_sequences && expert >= 0 &&
        expert < task.num_experts) {
      const std::int32_t group_size = task.num_experts / task.num_groups;
      const std::int32_t group = expert / group_size;
      expert_place = sequence * task.num_experts + expert;
      // Experts of a token ascend, so a group's slots are neighbours: the first of them counts.
      const bool is_first_of_group =
          slot == token * task.top_k || task.expert_ids[slot - 1] / group_size != group;
      group_place = is_first_of_group ? sequence * task.num_groups + group : -1;
    }
  }
  count(task.selected_counts, expert_place);
  count(task.group_token_counts, group_place);
}

struct BalanceTask {
  RouterOptions options;
  const float* scores;
  const std::int32_t* sequence_ids;
  std::int64_t* selected_counts;
  std::int64_t* score_sums;
  std::int64_t num_tokens;
  std::int64_t num_sequences;
};

// What a warp has gathered of one sequence.
template <int kPerLane>
struct Gathered {
  std::int64_t sums[kPerLane];
  int counts[kPerLane];

  __device__ __forceinline__ void add_to_memory(const BalanceTask& task,
                                                std::int64_t sequence) const {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const std::int64_t place = sequence * task.options.num_experts + expert_of(i);
      if (expert_of(i) < task.options.num_experts) {
        add_to(task.score_sums + place, sums[i]);
        if (counts[i] != 0) {
          add_to(task.selected_counts + place, counts[i]);
        }
      }
    }
  }
  __device__ __forceinline__ void add_token(const RouterOptions& options, const float* row) {
    float scores[kPerLane];
    float candidates[kPerLane];
    load_row(row, options.num_experts, 0.0F, scores);
    load_row(row, options.num_experts, excluded(), candidates);
    bool is_complete = false;
    const unsigned chosen = choose_largest(candidates, options.top_k, is_complete);
    const float divisor = options.score == ScoreFunction::kSigmoid ? sum_of(scores) : 1.0F;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      // Without enough candidates the first experts: the gates are NaN already.
      const bool is_chosen = is_complete ? (chosen >> i & 1U) != 0 : expert_of(i) < options.top_k;
      counts[i] += is_chosen ? 1 : 0;
      const float share = scores[i] / divisor;
      if (fabsf(share) < 2.0F) {  // not NaN
        sums[i] += __float2ll_rn(share * static_cast<float>(std::int64_t{1} << kScoreFractionBits));
      }
    }
  }
};

template <int kPerLane>
__global__ void __launch_bounds__(kThreads) gather_statistics(BalanceTask task) {
  Gathered<kPerLane> gathered{};
  std::int64_t sequence = -1;  // of what is gathered
  const std::int64_t first = warp_of_grid() * kWarpTokens;
  for (std::int64_t token = first; token < first + kWarpTokens && token < task.num_tokens;
       ++token) {
    const std::int64_t sequence_of_token = task.sequence_ids[token];
    if (sequence_of_token < 0 || sequence_of_token >= task.num_sequences) {
      continue;
    }
    if (sequence_of_token != sequence) {
      if (sequence >= 0) {
        gathered.add_to_memory(task, sequence);
      }
      gathered = {};
      sequence = sequence_of_token;
    }
    gathered.add_token(task.options, task.scores + token * task.options.num_experts);
  }
  if (sequence >= 0) {
    gathered.add_to_memory(task, sequence);
  }
}

struct BalanceGradients {
  RouterOptions options;
  const float* scores;
  const std::int32_t* sequence_ids;
  const float* coefficient;
  float* d_scores;
  std::int64_t num_tokens;
  std::int64_t num_sequences;
};

// A warp a token.
template <int kPerLane>
__global__ void __launch_bounds__(kThreads) balance_gradients(BalanceGradients task) {
  const std::int64_t token = warp_of_grid();
  if (token >= task.num_tokens) {
    return;
  }
  const int num_experts = task.options.num_experts;
  const std::int64_t sequence = task.sequence_ids[token];
  float* row = task.d_scores + token * num_experts;
  float weights[kPerLane];
  if (sequence >= 0 && sequence < task.num_sequences) {
    load_row(task.coefficient + sequence * num_experts, num_experts, 0.0F, weights);
  } else {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      weights[i] = __int_as_float(0x7fc00000);  // NaN
    }
  }
  float mean = 0.0F;
  float sum = 1.0F;
  if (task.options.score == ScoreFunction::kSigmoid) {
    float scores[kPerLane];
    float products[kPerLane];
    load_row(task.scores + token * num_experts, num_experts, 0.0F, scores);
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      products[i] = weights[i] * scores[i];
    }
    sum = sum_of(scores);
    mean = sum_of(products) / sum;
  }
  float gradients[kPerLane];
  load_row(row, num_experts, 0.0F, gradients);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    gradients[i] += (weights[i] - mean) / sum;
  }
  store_row(gradients, num_experts, row);
}

void count_experts_cuda(const Tensor& expert_ids, Tensor& counts, Stream& stream) {
  const std::int64_t num_units = counts.numel() / counts.size(0);
  const CountTask task{
      device_data<std::int32_t>(expert_ids), expert_ids.numel(), expert_ids.numel() / num_units,
      device_data<std::int64_t>(counts),     counts.size(0),     num_units};
  launch(count_ids, {blocks_for(task.num_slots, kThreads), kThreads}, stream, task);
}

void selection_statistics_cuda(const Tensor& expert_ids, const Tensor& sequence_ids,
                               Tensor& selected_counts, Tensor& group_token_counts,
                               Stream& stream) {
  const SelectionTask task{device_data<std::int32_t>(expert_ids),
                           device_data<std::int32_t>(sequence_ids),
                           device_data<std::int64_t>(selected_counts),
                           device_data<std::int64_t>(group_token_counts),
                           expert_ids.numel(),
                           static_cast<std::int32_t>(expert_ids.size(1)),
                           static_cast<std::int32_t>(selected_counts.size(0)),
                           static_cast<std::int32_t>(selected_counts.size(1)),
                           static_cast<std::int32_t>(group_token_counts.size(1))};
  launch(count_selection, {blocks_for(task.num_slots, kThreads), kThreads}, stream, task);
}

void balance_statistics_cuda(const RouterOptions& options, const Tensor& scores,
                             const Tensor& sequence_ids, Tensor& selected_counts,
                             Tensor& score_sums, Stream& stream) {
  const BalanceTask task{options,
                         device_data<float>(scores),
                         device_data<std::int32_t>(sequence_ids),
                         device_data<std::int64_t>(selected_counts),
                         device_data<std::int64_t>(score_sums),
                         scores.size(0),
                         score_sums.size(0)};
  with_places_per_lane(options.num_experts, [&](auto per_lane) {
    launch(gather_statistics<per_lane()>,
           {blocks_for(task.num_tokens, kWarps * kWarpTokens), kThreads}, stream, task);
  });
}

void balance_backward_cuda(const RouterOptions& options, const Tensor& scores,
                           const Tensor& sequence_ids, const Tensor& coefficient, Tensor& d_scores,
                           Stream& stream) {
  const BalanceGradients task{options,
                              device_data<float>(scores),
                              device_data<std::int32_t>(sequence_ids),
                              device_data<float>(coefficient),
                              device_data<float>(d_scores),
                              scores.size(0),
                              coefficient.size(0)};
  with_places_per_lane(options.num_experts, [&](auto per_lane) {
    launch(balance_gradients<per_lane()>, {blocks_for(task.num_tokens, kWarps), kThreads}, stream,
           task);
  });
}

const KernelRegistration register_count(count_experts_slot, DeviceType::kCuda, count_experts_cuda);
const KernelRegistration register_statistics(balance_statistics_slot, DeviceType::kCuda,
                                             balance_statistics_cuda);
const KernelRegistration register_selection_statistics(selection_statistics_slot, DeviceType::kCuda,
                                                       selection_statistics_cuda);
const KernelRegistration register_balance_backward(balance_backward_slot, DeviceType::kCuda,
                                                   balance_backward_cuda);

}  // namespace
}  // namespace fathom::kernels
