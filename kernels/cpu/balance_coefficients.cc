#include "kernels/balance_coefficients.h"

#include <bit>
#include <cmath>
#include <span>
#include <vector>

#include "kernels/router.h"

namespace fathom::kernels {
namespace {

std::span<const std::int64_t> row_of(const Tensor& tensor, std::int64_t row) {
  const auto width = static_cast<std::size_t>(tensor.size(1));
  return tensor.values<std::int64_t>().subspan(static_cast<std::size_t>(row) * width, width);
}

// The factors of one sequence: loss = sum_i factor_i P_i, all terms together.
std::vector<double> expert_factors(const BalanceOptions& options,
                                   const BalanceStatistics& statistics, std::int64_t sequence) {
  const auto unbiased = row_of(statistics.unbiased_counts, sequence);
  const auto selected = row_of(statistics.selected_counts, sequence);
  const auto tokens_in_group = row_of(statistics.group_token_counts, sequence);
  const std::size_t experts = selected.size();
  const std::size_t groups = tokens_in_group.size();
  const auto num_tokens = static_cast<double>(options.sequence_length);
  const double per_count =
      static_cast<double>(experts) / (static_cast<double>(options.top_k) * num_tokens);
  const double per_token = static_cast<double>(groups) /
                           (static_cast<double>(options.max_groups_per_token) * num_tokens);
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
      factors[i] = options.sequence_coefficient * per_count * static_cast<double>(unbiased[i]) +
                   options.expert_coefficient * per_count * static_cast<double>(selected[i]) +
                   options.device_coefficient * device +
                   options.communication_coefficient * communication;
    }
  }
  return factors;
}

void balance_coefficients_cpu(const BalanceOptions& options, const BalanceStatistics& statistics,
                              Tensor& coefficient, Tensor& losses, Stream& /*stream*/) {
  const auto num_tokens = static_cast<double>(options.sequence_length);
  auto* out = coefficient.mutable_data<float>();
  const auto bits = losses.mutable_values<std::int64_t>();
  for (std::int64_t sequence = 0; sequence < coefficient.size(0); ++sequence) {
    const std::vector<double> factors = expert_factors(options, statistics, sequence);
    const auto sums = row_of(statistics.score_sums, sequence);
    double loss = 0.0;
    for (std::size_t i = 0; i < factors.size(); ++i) {
      const double scaled = options.scale * factors[i] / num_tokens;
      *out++ = static_cast<float>(scaled);
      loss += scaled * std::ldexp(static_cast<double>(sums[i]), -kScoreFractionBits);
    }
    bits[static_cast<std::size_t>(sequence)] = std::bit_cast<std::int64_t>(loss);
  }
}

const KernelRegistration register_coefficients(balance_coefficients_slot, DeviceType::kCpu,
                                               balance_coefficients_cpu);

}  // namespace
}  // namespace fathom::kernels
