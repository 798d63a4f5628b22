#include "core/cuda/launch.cuh"
#include "kernels/cuda/consecutive_experts.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/router_row.cuh"
#include "kernels/router.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 4;  // of a block; a warp takes a token
constexpr int kThreads = kWarps * kWarpSize;
constexpr float kGateSumFloor = 1e-20F;

__device__ __forceinline__ int warp_of_block() { return static_cast<int>(threadIdx.x) / kWarpSize; }
__device__ __forceinline__ std::int64_t token_of_warp() {
  return std::int64_t{blockIdx.x} * kWarps + warp_of_block();
}

__device__ __forceinline__ float sigmoid(float x) {
  const float power = expf(-fabsf(x));
  return (x < 0.0F ? power : 1.0F) / (1.0F + power);
}

// logits become scores; false when any of them is NaN. Places past the last expert hold -inf and
// become 0.
template <int kPerLane>
__device__ __forceinline__ bool score_row(ScoreFunction score, float (&row)[kPerLane]) {
  if (score == ScoreFunction::kSigmoid) {
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      row[i] = sigmoid(row[i]);
    }
    const float sum = sum_of(row);
    return sum == sum;
  }
  float largest = excluded();
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    largest = Max::of(largest, row[i]);
  }
  largest = reduce_warp<Max>(largest);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    row[i] = expf(row[i] - largest);
  }
  const float sum = sum_of(row);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    row[i] = row[i] / sum;
  }
  return sum == sum;
}

// Of one warp.
template <int kPerLane>
struct Memory {
  SharedRow<float, kPerLane> scores;
  SharedRow<float, kPerLane> candidates;
  SharedRow<int, kPerLane> slots;  // the expert of each, in ascending order
};

template <int kPerLane>
__device__ __forceinline__ float score_of_group(const RouterOptions& options, int group,
                                                SharedRow<float, kPerLane>& candidates) {
  const int size = options.num_experts / options.num_groups;
  float first = excluded();
  float second = excluded();
  for (int i = 0; i < size; ++i) {
    const float candidate = candidates[group * size + i];
    second = fmaxf(second, fminf(first, candidate));
    first = fmaxf(first, candidate);
  }
  return options.group_score == GroupScore::kSumOfTop2 && size > 1 ? first + second : first;
}

// Makes no candidates of the experts outside the kept groups; false when there are too few groups.
template <int kPerLane>
__device__ __forceinline__ bool exclude_groups(const RouterOptions& options,
                                               float (&candidates)[kPerLane],
                                               Memory<kPerLane>& memory) {
  store_row(candidates, options.num_experts, memory.candidates);
  __syncwarp();
  float group_scores[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int group = expert_of(i);  // groups lie over the lanes as experts do
    group_scores[i] =
        group < options.num_groups ? score_of_group(options, group, memory.candidates) : excluded();
  }
  bool is_complete = false;
  const unsigned kept = choose_largest(group_scores, options.num_kept_groups, is_complete);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    memory.slots[expert_of(i)] = static_cast<int>(kept >> i & 1U);  // of group i, for the moment
  }
  __syncwarp();
  const int group_size = options.num_experts / options.num_groups;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (expert_of(i) < options.num_experts && memory.slots[expert_of(i) / group_size] == 0) {
      candidates[i] = excluded();
    }
  }
  __syncwarp();
  return is_complete;
}

// Fills memory.slots; false when there are too few candidates.
template <int kPerLane>
__device__ __forceinline__ bool choose(const RouterOptions& options,
                                       const float (&scores)[kPerLane], const float* bias,
                                       Memory<kPerLane>& memory) {
  float candidates[kPerLane];
  load_row(bias, options.num_experts, excluded(), candidates);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    candidates[i] = scores[i] + candidates[i];
  }
  if (options.num_kept_groups < options.num_groups &&
      !exclude_groups(options, candidates, memory)) {
    return false;
  }
  bool is_complete = false;
  const unsigned chosen = choose_largest(candidates, options.top_k, is_complete);
  if (is_complete) {
    for_each_chosen<kPerLane>(chosen, [&](int expert, int slot) { memory.slots[slot] = expert; });
  }
  return is_complete;
}

struct Forward {
  RouterOptions options;
  const float* logits;
  const float* bias;
  float* scores;
  std::int32_t* expert_ids;
  float* gates;
  std::int64_t num_tokens;
};

// Fills memory.slots with experts that do not depend on the scores: those dealt out in turn, those
// kept, or the first ones of a token without a choice.
template <class Expert, int kPerLane>
__device__ __forceinline__ void fill_slots(int top_k, const Expert& expert,
                                           Memory<kPerLane>& memory) {
  for (int slot = lane_of_thread(); slot < top_k; slot += kWarpSize) {
    memory.slots[slot] = expert(slot);
  }
}

// Fills memory.slots; false when the token has no choice.
template <int kPerLane>
__device__ __forceinline__ bool select(const Forward& task, std::int64_t token, bool is_sound,
                                       const float (&scores)[kPerLane], Memory<kPerLane>& memory) {
  const RouterOptions& options = task.options;
  if (options.forced_balance) {
    const auto first =
        static_cast<int>((options.first_token + token) * options.top_k % options.num_experts);
    fill_slots(
        options.top_k,
        [&](int slot) {
          return ascending_of_consecutive(first, options.top_k, options.num_experts, slot);
        },
        memory);
    return true;
  }
  if (options.keeps_choice) {  // a NaN among the scores of its experts reaches the gates by itself
    const std::int32_t* kept = task.expert_ids + token * options.top_k;
    fill_slots(options.top_k, [&](int slot) { return kept[slot]; }, memory);
    return true;
  }
  if (is_sound && choose(options, scores, task.bias, memory)) {
    return true;
  }
  fill_slots(options.top_k, [](int slot) { return slot; }, memory);
  return false;
}

template <int kPerLane>
__global__ void __launch_bounds__(kThreads) forward(Forward task) {
  __shared__ Memory<kPerLane> memory_of_warp[kWarps];
  Memory<kPerLane>& memory = memory_of_warp[warp_of_block()];
  const RouterOptions& options = task.options;
  const std::int64_t token = token_of_warp();
  if (token >= task.num_tokens) {
    return;
  }
  float scores[kPerLane];
  load_row(task.logits + token * options.num_experts, options.num_experts, excluded(), scores);
  const bool is_sound = score_row(options.score, scores);
  store_row(scores, options.num_experts, task.scores + token * options.num_experts);
  store_row(scores, options.num_experts, memory.scores);
  const bool has_choice = select(task, token, is_sound, scores, memory);
  __syncwarp();
  float divisor = 1.0F;
  if (options.normalize_gates) {
    float sum = 0.0F;  // in slot order
    for (int slot = 0; slot < options.top_k; ++slot) {
      sum += memory.scores[memory.slots[slot]];
    }
    divisor = sum + kGateSumFloor;
  }
  for (int slot = lane_of_thread(); slot < options.top_k; slot += kWarpSize) {
    const int expert = memory.slots[slot];
    const float gate = options.gate_scale * (memory.scores[expert] / divisor);
    task.expert_ids[token * options.top_k + slot] = expert;
    // Of a token without a choice NaN, which reaches the loss: the step is skipped as a whole.
    task.gates[token * options.top_k + slot] = has_choice ? gate : __int_as_float(0x7fc00000);
  }
}

struct Backward {
  RouterOptions options;
  const float* scores;
  const std::int32_t* expert_ids;
  const float* d_gates;
  const float* d_scores;
  float* d_logits;
  std::int64_t num_tokens;
};

// Of one warp.
template <int kPerLane>
struct GateGradients {
  SharedRow<float, kPerLane> scores;
  SharedRow<float, kPerLane> d_scores;  // what the gates add, for all experts
};

// Fills memory.d_scores; the other lanes' parts are there after a barrier of the warp.
template <int kPerLane>
__device__ __forceinline__ void spread_gate_gradients(const RouterOptions& options,
                                                      const std::int32_t* experts,
                                                      const float* d_gates,
                                                      GateGradients<kPerLane>& memory) {
  float divisor = 1.0F;
  float mean = 0.0F;
  if (options.normalize_gates) {
    float sum = 0.0F;
    float weighted = 0.0F;
    for (int slot = 0; slot < options.top_k; ++slot) {
      const float score = memory.scores[experts[slot]];
      sum += score;
      weighted += d_gates[slot] * score;
    }
    divisor = sum + kGateSumFloor;
    mean = weighted / divisor;
  }
  for (int slot = lane_of_thread(); slot < options.top_k; slot += kWarpSize) {
    memory.d_scores[experts[slot]] = options.gate_scale / divisor * (d_gates[slot] - mean);
  }
}

// Reads its row before it writes: d_logits may be d_scores.
template <int kPerLane>
__global__ void __launch_bounds__(kThreads) backward(Backward task) {
  __shared__ GateGradients<kPerLane> memory_of_warp[kWarps];
  GateGradients<kPerLane>& memory = memory_of_warp[warp_of_block()];
  const RouterOptions& options = task.options;
  const std::int64_t token = token_of_warp();
  if (token >= task.num_tokens) {
    return;
  }
  const std::int64_t first = token * options.num_experts;
  float scores[kPerLane];
  float gradients[kPerLane];
  load_row(task.scores + first, options.num_experts, 0.0F, scores);
  load_row(task.d_scores + first, options.num_experts, 0.0F, gradients);
  store_row(scores, options.num_experts, memory.scores);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    memory.d_scores[expert_of(i)] = 0.0F;
  }
  __syncwarp();
  spread_gate_gradients(options, task.expert_ids + token * options.top_k,
                        task.d_gates + token * options.top_k, memory);
  __syncwarp();
  float products[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    gradients[i] += memory.d_scores[expert_of(i)];
    products[i] = gradients[i] * scores[i];
  }
  const bool is_softmax = options.score == ScoreFunction::kSoftmax;
  const float mean = is_softmax ? sum_of(products) : 0.0F;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    gradients[i] = is_softmax ? scores[i] * (gradients[i] - mean)
                              : gradients[i] * (scores[i] * (1.0F - scores[i]));
  }
  store_row(gradients, options.num_experts, task.d_logits + first);
}

void router_forward_cuda(const RouterOptions& options, const Tensor& logits, const Tensor& bias,
                         Tensor& scores, Tensor& expert_ids, Tensor& gates, Stream& stream) {
  const Forward task{options,
                     device_data<float>(logits),
                     device_data<float>(bias),
                     device_data<float>(scores),
                     device_data<std::int32_t>(expert_ids),
                     device_data<float>(gates),
                     logits.size(0)};
  with_places_per_lane(options.num_experts, [&](auto per_lane) {
    launch(forward<per_lane()>, {blocks_for(task.num_tokens, kWarps), kThreads}, stream, task);
  });
}

void router_backward_cuda(const RouterOptions& options, const Tensor& scores,
                          const Tensor& expert_ids, const Tensor& d_gates, const Tensor& d_scores,
                          Tensor& d_logits, Stream& stream) {
  const Backward task{options,
                      device_data<float>(scores),
                      device_data<std::int32_t>(expert_ids),
                      device_data<float>(d_gates),
                      device_data<float>(d_scores),
                      device_data<float>(d_logits),
                      scores.size(0)};
  with_places_per_lane(options.num_experts, [&](auto per_lane) {
    launch(backward<per_lane()>, {blocks_for(task.num_tokens, kWarps), kThreads}, stream, task);
  });
}

const KernelRegistration register_forward(router_forward_slot, DeviceType::kCuda,
                                          router_forward_cuda);
const KernelRegistration register_backward(router_backward_slot, DeviceType::kCuda,
                                           router_backward_cuda);

}  // namespace
}  // namespace fathom::kernels
