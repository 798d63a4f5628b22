#include "model/balance_loss.h"

#include <cmath>
#include <vector>

#include "kernels/elementwise.h"

namespace fathom::model {
namespace {

// Sums over the tokens of each sequence, the same on all tensor ranks.
struct Statistics {
  Tensor unbiased_counts;     // [sequences, experts] int64
  Tensor score_sums;          // [sequences, experts] int64, multiples of 2^-kScoreFractionBits
  Tensor selected_counts;     // [sequences, experts] int64
  Tensor group_token_counts;  // [sequences, groups] int64
};

Statistics gather_statistics(const MoeOptions& options, const kernels::RouterOptions& router,
                             const Tensor& scores, const Tensor& expert_ids,
                             const Context& context) {
  Stream& stream = context.stream;
  const Shape per_expert{context.batch.num_sequences, options.num_experts};
  Statistics statistics;
  statistics.unbiased_counts = Tensor::zeros(per_expert, DType::kInt64, stream);
  statistics.score_sums = Tensor::zeros(per_expert, DType::kInt64, stream);
  statistics.selected_counts = Tensor::zeros(per_expert, DType::kInt64, stream);
  statistics.group_token_counts = Tensor::zeros(
      Shape{context.batch.num_sequences, options.num_device_groups}, DType::kInt64, stream);
  const Tensor sequence_ids = context.local(context.batch.sequence_ids);
  kernels::balance_statistics(router, scores, sequence_ids, statistics.unbiased_counts,
                              statistics.score_sums, stream);
  kernels::selection_statistics(expert_ids, sequence_ids, statistics.selected_counts,
                                statistics.group_token_counts, stream);
  parallel::Communicator& tensor = context.mesh.tensor();
  for (Tensor* sums : {&statistics.unbiased_counts, &statistics.score_sums,
                       &statistics.selected_counts, &statistics.group_token_counts}) {
    tensor.all_reduce(*sums, parallel::ReduceOp::kSum, stream).wait();
  }
  return statistics;
}

// The factors of one sequence: loss = sum_i factor_i P_i, all terms together.
std::vector<double> expert_factors(const MoeOptions& options, const Statistics& statistics,
                                   std::int64_t sequence, std::int64_t num_tokens) {
  const auto experts = static_cast<std::size_t>(options.num_experts);
  const auto groups = static_cast<std::size_t>(options.num_device_groups);
  const auto first = static_cast<std::size_t>(sequence) * experts;
  const auto unbiased = statistics.unbiased_counts.values<std::int64_t>().subspan(first, experts);
  const auto selected = statistics.selected_counts.values<std::int64_t>().subspan(first, experts);
  const auto tokens_in_group = statistics.group_token_counts.values<std::int64_t>().subspan(
      static_cast<std::size_t>(sequence) * groups, groups);
  const double per_count = static_cast<double>(options.num_experts) /
                           (static_cast<double>(options.top_k) * static_cast<double>(num_tokens));
  const double per_token =
      static_cast<double>(options.num_device_groups) /
      (static_cast<double>(options.max_device_groups_per_token) * static_cast<double>(num_tokens));
  std::vector<double> factors(experts);
  const std::size_t group_size = experts / groups;
  for (std::size_t group = 0; group < groups; ++group) {
    std::int64_t group_count = 0;
    for (std::size_t i = group * group_size; i < (group + 1) * group_size; ++i) {
      group_count += selected[i];
    }
    const double device =
        per_count * static_cast<double>(group_count) / static_cast<double>(group_size);
    const double communication = per_token * static_cast<double>(tokens_in_group[group]);
    for (std::size_t i = group * group_size; i < (group + 1) * group_size; ++i) {
      factors[i] =
          options.sequence_balance_coefficient * per_count * static_cast<double>(unbiased[i]) +
          options.expert_balance_coefficient * per_count * static_cast<double>(selected[i]) +
          options.device_balance_coefficient * device +
          options.communication_balance_coefficient * communication;
    }
  }
  return factors;
}

}  // namespace

BalanceLoss::BalanceLoss(const MoeOptions& options) : options_(options) {}

bool BalanceLoss::is_on() const noexcept {
  return options_.sequence_balance_coefficient != 0.0F ||
         options_.expert_balance_coefficient != 0.0F ||
         options_.device_balance_coefficient != 0.0F ||
         options_.communication_balance_coefficient != 0.0F;
}

void BalanceLoss::forward(const kernels::RouterOptions& router, const Tensor& scores,
                          const Tensor& expert_ids, Saved& saved, const Context& context) const {
  if (!is_on() || context.pass != Pass::kTrain) {
    return;
  }
  const Statistics statistics = gather_statistics(options_, router, scores, expert_ids, context);
  saved.coefficient = Tensor::empty(statistics.score_sums.shape(), DType::kFloat32, context.stream);
  if (context.stream.is_meta()) {
    return;
  }
  const std::int64_t num_tokens = context.batch.sequence_length;
  const auto coefficients = saved.coefficient.mutable_values<float>();
  const auto sums = statistics.score_sums.values<std::int64_t>();
  for (std::int64_t sequence = 0; sequence < context.batch.num_sequences; ++sequence) {
    const std::vector<double> factors = expert_factors(options_, statistics, sequence, num_tokens);
    const std::size_t first = static_cast<std::size_t>(sequence) * factors.size();
    double loss = 0.0;
    for (std::size_t i = 0; i < factors.size(); ++i) {
      const double scaled =
          context.batch.balance_scale * factors[i] / static_cast<double>(num_tokens);
      coefficients[first + i] = static_cast<float>(scaled);
      loss +=
          scaled * std::ldexp(static_cast<double>(sums[first + i]), -kernels::kScoreFractionBits);
    }
    // All tensor ranks hold the same sums: each counts its share of the sequences.
    const parallel::Communicator& tensor = context.mesh.tensor();
    if (context.counts_experts && sequence % tensor.world_size() == tensor.rank()) {
      context.losses->balance_loss.add(loss);
    }
  }
}

void BalanceLoss::backward(const kernels::RouterOptions& router, const Tensor& scores,
                           const Saved& saved, Tensor& d_scores, const Context& context) const {
  kernels::fill(d_scores, 0.0F, context.stream);
  if (saved.coefficient.defined()) {
    kernels::balance_backward(router, scores, context.local(context.batch.sequence_ids),
                              saved.coefficient, d_scores, context.stream);
  }
}

}  // namespace fathom::model
