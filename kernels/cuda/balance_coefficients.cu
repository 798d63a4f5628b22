#include "core/cuda/launch.cuh"
#include "kernels/balance_coefficients.h"
#include "kernels/cuda/device_tensor.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/router.h"

namespace fathom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

// Of all sequences, row after row.
struct Statistics {
  const std::int64_t* unbiased;
  const std::int64_t* score_sums;
  const std::int64_t* selected;
  const std::int64_t* group_tokens;
  int num_experts;
  int num_groups;
};

// What the losses of a sequence multiply its statistics by.
struct Weights {
  double sequence;       // unbiased counts
  double expert;         // selected counts
  double device;         // selected counts of the expert's group, their sum
  double communication;  // tokens of the expert's group
  double per_token;      // scale / T
};

Weights weights_of(const BalanceOptions& options, const Statistics& statistics) {
  const auto num_tokens = static_cast<double>(options.sequence_length);
  const double per_count = statistics.num_experts / (options.top_k * num_tokens);
  const double per_group = statistics.num_groups / (options.max_groups_per_token * num_tokens);
  const double groups_per_expert =
      static_cast<double>(statistics.num_groups) / statistics.num_experts;
  return {options.sequence_coefficient * per_count, options.expert_coefficient * per_count,
          options.device_coefficient * per_count * groups_per_expert,
          options.communication_coefficient * per_group, options.scale / num_tokens};
}

// A block makes one sequence, its threads expert after expert.
__global__ void __launch_bounds__(kThreads)
    make_coefficients(Statistics statistics, Weights weights, float* coefficient, double* losses) {
  const int num_experts = statistics.num_experts;
  const int group_size = num_experts / statistics.num_groups;
  const std::int64_t first = std::int64_t{blockIdx.x} * num_experts;
  double loss = 0.0;
  for (int i = static_cast<int>(threadIdx.x); i < num_experts; i += kThreads) {
    const int group = i / group_size;
    std::int64_t of_group = 0;
    for (int other = group * group_size; other < (group + 1) * group_size; ++other) {
      of_group += statistics.selected[first + other];
    }
    const std::int64_t group_tokens =
        statistics.group_tokens[std::int64_t{blockIdx.x} * statistics.num_groups + group];
    const double factor = weights.sequence * static_cast<double>(statistics.unbiased[first + i]) +
                          weights.expert * static_cast<double>(statistics.selected[first + i]) +
                          weights.device * static_cast<double>(of_group) +
                          weights.communication * static_cast<double>(group_tokens);
    const double scaled = weights.per_token * factor;
    coefficient[first + i] = static_cast<float>(scaled);
    constexpr double kUnit = 1.0 / static_cast<double>(std::int64_t{1} << kScoreFractionBits);
    loss += scaled * (static_cast<double>(statistics.score_sums[first + i]) * kUnit);
  }
  loss = reduce_block<Sum, kThreads>(loss, 0.0);
  if (threadIdx.x == 0) {
    losses[blockIdx.x] = loss;
  }
}

void balance_coefficients_cuda(const BalanceOptions& options, const BalanceStatistics& statistics,
                               Tensor& coefficient, Tensor& losses, Stream& stream) {
  const Statistics given{device_data<std::int64_t>(statistics.unbiased_counts),
                         device_data<std::int64_t>(statistics.score_sums),
                         device_data<std::int64_t>(statistics.selected_counts),
                         device_data<std::int64_t>(statistics.group_token_counts),
                         static_cast<int>(coefficient.size(1)),
                         static_cast<int>(statistics.group_token_counts.size(1))};
  launch(make_coefficients, {coefficient.size(0), kThreads}, stream, given,
         weights_of(options, given), device_data<float>(coefficient), device_data<double>(losses));
}

const KernelRegistration register_coefficients(balance_coefficients_slot, DeviceType::kCuda,
                                               balance_coefficients_cuda);

}  // namespace
}  // namespace fathom::kernels
