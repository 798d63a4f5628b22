#include "kernels/router.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "kernels/cpu/contribution.h"
#include "kernels/cpu/rows.h"

namespace fathom::kernels {
namespace {

using simd::Floats;

constexpr std::int64_t kGrainTokens = 64;
constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr float kGateSumFloor = 1e-20F;

// The indices of the largest candidates, in the order of size, the lower index first among equals;
// -inf is no candidate. `values` is room for as many floats. False when there are too few.
bool choose_largest(std::span<const float> candidates, std::span<float> values,
                    std::span<std::int32_t> chosen) {
  std::fill(values.begin(), values.end(), kExcluded);
  std::fill(chosen.begin(), chosen.end(), -1);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const float candidate = candidates[i];
    if (!(candidate > values.back())) {
      continue;
    }
    std::size_t place = values.size() - 1;
    for (; place > 0 && values[place - 1] < candidate; --place) {
      values[place] = values[place - 1];
      chosen[place] = chosen[place - 1];
    }
    values[place] = candidate;
    chosen[place] = static_cast<std::int32_t>(i);
  }
  return chosen.back() >= 0;
}

// scores = softmax(logits) or sigmoid(logits); returns a number that is NaN if any of them is.
float score_row(ScoreFunction score, const float* logits, float* scores, std::int64_t num_experts) {
  if (score == ScoreFunction::kSoftmax) {
    const float largest = simd::row_max(logits, num_experts);
    const float sum = simd::row_exp_sum(logits, largest, scores, num_experts);
    const Floats divisor = simd::broadcast(sum);
    simd::for_each_block(num_experts, [=](std::int64_t i, auto extent) {
      simd::store(simd::load(scores + i, extent) / divisor, scores + i, extent);
    });
    return sum;
  }
  simd::for_each_block(num_experts, [=](std::int64_t i, auto extent) {
    simd::store(simd::sigmoid(simd::load(logits + i, extent)), scores + i, extent);
  });
  return simd::row_sum(scores, num_experts);
}

float score_of_group(GroupScore group_score, std::span<const float> candidates) {
  float first = kExcluded;
  float second = kExcluded;
  for (const float candidate : candidates) {
    second = std::max(second, std::min(first, candidate));
    first = std::max(first, candidate);
  }
  const bool adds_second = group_score == GroupScore::kSumOfTop2 && candidates.size() > 1;
  return adds_second ? first + second : first;
}

// Chooses the experts of one token after another; keeps what it needs for that.
class Selection {
 public:
  explicit Selection(const RouterOptions& options)
      : options_(options),
        candidates_(static_cast<std::size_t>(options.num_experts)),
        group_scores_(static_cast<std::size_t>(options.num_groups)),
        kept_groups_(static_cast<std::size_t>(options.num_kept_groups)),
        values_(static_cast<std::size_t>(std::max(options.top_k, options.num_kept_groups))) {}

  // Writes the experts in ascending order; false when there are too few candidates.
  bool choose(const float* scores, const float* bias, std::span<std::int32_t> chosen) {
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      candidates_[i] = scores[i] + bias[i];
    }
    if (options_.num_kept_groups < options_.num_groups && !exclude_groups()) {
      return false;
    }
    return sort_ascending(chosen);
  }
  // The same by the scores alone, without groups.
  bool choose_unbiased(const float* scores, std::span<std::int32_t> chosen) {
    std::copy_n(scores, candidates_.size(), candidates_.begin());
    return sort_ascending(chosen);
  }

 private:
  bool exclude_groups() {
    const std::size_t group_size = candidates_.size() / group_scores_.size();
    for (std::size_t group = 0; group < group_scores_.size(); ++group) {
      group_scores_[group] = score_of_group(
          options_.group_score, std::span(candidates_).subspan(group * group_size, group_size));
    }
    if (!choose_largest(group_scores_, std::span(values_).first(kept_groups_.size()),
                        kept_groups_)) {
      return false;
    }
    for (std::size_t group = 0; group < group_scores_.size(); ++group) {
      const bool is_kept = std::find(kept_groups_.begin(), kept_groups_.end(),
                                     static_cast<std::int32_t>(group)) != kept_groups_.end();
      if (!is_kept) {
        const auto first = candidates_.begin() + static_cast<std::ptrdiff_t>(group * group_size);
        std::fill_n(first, group_size, kExcluded);
      }
    }
    return true;
  }
  bool sort_ascending(std::span<std::int32_t> chosen) {
    const bool is_complete =
        choose_largest(candidates_, std::span(values_).first(chosen.size()), chosen);
    std::sort(chosen.begin(), chosen.end());
    return is_complete;
  }

  const RouterOptions& options_;
  std::vector<float> candidates_;
  std::vector<float> group_scores_;
  std::vector<std::int32_t> kept_groups_;
  std::vector<float> values_;
};

void force_balance(const RouterOptions& options, std::int64_t row, std::span<std::int32_t> chosen) {
  const std::int64_t first = (options.first_token + row) * options.top_k;
  for (std::size_t j = 0; j < chosen.size(); ++j) {
    chosen[j] =
        static_cast<std::int32_t>((first + static_cast<std::int64_t>(j)) % options.num_experts);
  }
  std::sort(chosen.begin(), chosen.end());
}

void compute_gates(const RouterOptions& options, const float* scores,
                   std::span<const std::int32_t> chosen, float* gates) {
  float divisor = 1.0F;
  if (options.normalize_gates) {
    float sum = 0.0F;
    for (const std::int32_t expert : chosen) {
      sum += scores[expert];
    }
    divisor = sum + kGateSumFloor;
  }
  for (std::size_t j = 0; j < chosen.size(); ++j) {
    gates[j] = options.gate_scale * (scores[chosen[j]] / divisor);
  }
}

// A token without a choice: its NaN gates reach the loss, and the step is skipped as a whole.
void choose_none(std::span<std::int32_t> chosen, float* gates) {
  std::iota(chosen.begin(), chosen.end(), 0);
  std::fill_n(gates, chosen.size(), std::numeric_limits<float>::quiet_NaN());
}

void router_forward_cpu(const RouterOptions& options, const Tensor& logits, const Tensor& bias,
                        Tensor& scores, Tensor& expert_ids, Tensor& gates, Stream& stream) {
  const std::int64_t num_experts = options.num_experts;
  const auto top_k = static_cast<std::size_t>(options.top_k);
  const float* logit_rows = logits.data<float>();
  const float* biases = bias.data<float>();
  auto* score_rows = scores.mutable_data<float>();
  auto* ids = expert_ids.mutable_data<std::int32_t>();
  auto* gate_rows = gates.mutable_data<float>();
  stream.parallel_for(logits.size(0), kGrainTokens, [&](std::int64_t begin, std::int64_t end) {
    // All scores first: computed row by row, they would each wait for the choice before them.
    std::vector<bool> has_nan(static_cast<std::size_t>(end - begin));
    for (std::int64_t row = begin; row < end; ++row) {
      const float witness = score_row(options.score, logit_rows + row * num_experts,
                                      score_rows + row * num_experts, num_experts);
      has_nan[static_cast<std::size_t>(row - begin)] = std::isnan(witness);
    }
    Selection selection(options);
    for (std::int64_t row = begin; row < end; ++row) {
      const float* row_scores = score_rows + row * num_experts;
      const std::span chosen(ids + row * options.top_k, top_k);
      float* const row_gates = gate_rows + row * options.top_k;
      if (options.forced_balance) {
        force_balance(options, row, chosen);
      } else if (options.keeps_choice) {
        // A NaN among the scores of its experts reaches the gates by itself.
      } else if (has_nan[static_cast<std::size_t>(row - begin)] ||
                 !selection.choose(row_scores, biases, chosen)) {
        choose_none(chosen, row_gates);
        continue;
      }
      compute_gates(options, row_scores, chosen, row_gates);
    }
  });
}

// row_gradients += dL/ds of the chosen experts.
void add_gate_gradients(const RouterOptions& options, const float* scores,
                        std::span<const std::int32_t> chosen, const float* d_gates,
                        float* row_gradients) {
  if (!options.normalize_gates) {
    for (std::size_t j = 0; j < chosen.size(); ++j) {
      row_gradients[chosen[j]] += options.gate_scale * d_gates[j];
    }
    return;
  }
  float sum = 0.0F;
  float weighted = 0.0F;
  for (std::size_t j = 0; j < chosen.size(); ++j) {
    sum += scores[chosen[j]];
    weighted += d_gates[j] * scores[chosen[j]];
  }
  const float divisor = sum + kGateSumFloor;
  for (std::size_t j = 0; j < chosen.size(); ++j) {
    row_gradients[chosen[j]] += options.gate_scale / divisor * (d_gates[j] - weighted / divisor);
  }
}

// gradients: dL/ds on entry, dL/dlogit on return.
void score_row_backward(ScoreFunction score, const float* scores, float* gradients,
                        std::int64_t num_experts) {
  const bool is_softmax = score == ScoreFunction::kSoftmax;
  const Floats mean =
      simd::broadcast(is_softmax ? simd::row_dot(gradients, scores, num_experts) : 0.0F);
  const Floats one = simd::broadcast(1.0F);
  simd::for_each_block(num_experts, [=](std::int64_t i, auto extent) {
    const Floats s = simd::load(scores + i, extent);
    const Floats gradient = simd::load(gradients + i, extent);
    simd::store(is_softmax ? s * (gradient - mean) : gradient * (s * (one - s)), gradients + i,
                extent);
  });
}

void router_backward_cpu(const RouterOptions& options, const Tensor& scores,
                         const Tensor& expert_ids, const Tensor& d_gates, const Tensor& d_scores,
                         Tensor& d_logits, Stream& stream) {
  const std::int64_t num_experts = options.num_experts;
  const auto top_k = static_cast<std::size_t>(options.top_k);
  const float* score_rows = scores.data<float>();
  const auto* ids = expert_ids.data<std::int32_t>();
  const float* gate_gradients = d_gates.data<float>();
  const float* score_gradients = d_scores.data<float>();
  auto* gradients = d_logits.mutable_data<float>();
  stream.parallel_for(scores.size(0), kGrainTokens, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* row_scores = score_rows + row * num_experts;
      float* row_gradients = gradients + row * num_experts;
      if (gradients != score_gradients) {
        std::copy_n(score_gradients + row * num_experts, num_experts, row_gradients);
      }
      add_gate_gradients(options, row_scores, std::span(ids + row * options.top_k, top_k),
                         gate_gradients + row * options.top_k, row_gradients);
      score_row_backward(options.score, row_scores, row_gradients, num_experts);
    }
  });
}

void check_expert(std::int64_t expert, std::int64_t num_experts) {
  FATHOM_CHECK(expert >= 0 && expert < num_experts, "expert ", expert, " of ", num_experts);
}

void count_experts_cpu(const Tensor& expert_ids, Tensor& counts, Stream& /*stream*/) {
  const auto count = counts.mutable_values<std::int64_t>();
  const auto experts = expert_ids.values<std::int32_t>();
  const auto num_units = static_cast<std::size_t>(counts.numel() / counts.size(0));
  const std::size_t slots_of_unit = experts.size() / num_units;
  for (std::size_t slot = 0; slot < experts.size(); ++slot) {
    check_expert(experts[slot], counts.size(0));
    ++count[static_cast<std::size_t>(experts[slot]) * num_units + slot / slots_of_unit];
  }
}

void check_sequence(std::int64_t sequence, std::int64_t num_sequences) {
  FATHOM_CHECK(sequence >= 0 && sequence < num_sequences, "sequence ", sequence, " of ",
               num_sequences);
}

// Threads split sequences; each walks the tokens of its own in order.
void balance_statistics_cpu(const RouterOptions& options, const Tensor& scores,
                            const Tensor& sequence_ids, Tensor& selected_counts, Tensor& score_sums,
                            Stream& stream) {
  const std::int64_t num_experts = options.num_experts;
  const std::int64_t num_sequences = score_sums.size(0);
  const auto sequences = sequence_ids.values<std::int32_t>();
  const float* score_rows = scores.data<float>();
  auto* counts = selected_counts.mutable_data<std::int64_t>();
  auto* sums = score_sums.mutable_data<std::int64_t>();
  const cpu::Quantizer quantizer(kScoreFractionBits, 2.0F);
  for (const std::int32_t sequence : sequences) {
    check_sequence(sequence, num_sequences);
  }
  stream.parallel_for(num_sequences, 1, [&](std::int64_t begin, std::int64_t end) {
    Selection selection(options);
    std::vector<std::int32_t> chosen(static_cast<std::size_t>(options.top_k));
    for (std::size_t token = 0; token < sequences.size(); ++token) {
      const std::int64_t sequence = sequences[token];
      if (sequence < begin || sequence >= end) {
        continue;
      }
      const float* row = score_rows + static_cast<std::int64_t>(token) * num_experts;
      if (!selection.choose_unbiased(row, chosen)) {
        std::iota(chosen.begin(), chosen.end(), 0);  // the sums below are NaN already
      }
      for (const std::int32_t expert : chosen) {
        ++counts[sequence * num_experts + expert];
      }
      const Floats divisor = simd::broadcast(
          options.score == ScoreFunction::kSigmoid ? simd::row_sum(row, num_experts) : 1.0F);
      std::int64_t* sum = sums + sequence * num_experts;
      simd::for_each_block(num_experts, [=](std::int64_t i, auto extent) {
        quantizer.add(simd::load(row + i, extent) / divisor, sum + i, extent);
      });
    }
  });
}

void selection_statistics_cpu(const Tensor& expert_ids, const Tensor& sequence_ids,
                              Tensor& selected_counts, Tensor& group_token_counts,
                              Stream& /*stream*/) {
  const std::int64_t num_sequences = selected_counts.size(0);
  const std::int64_t num_experts = selected_counts.size(1);
  const std::int64_t num_groups = group_token_counts.size(1);
  const std::int64_t group_size = num_experts / num_groups;
  const std::int64_t top_k = expert_ids.size(1);
  const auto* expert = expert_ids.data<std::int32_t>();
  auto* counts = selected_counts.mutable_data<std::int64_t>();
  auto* group_counts = group_token_counts.mutable_data<std::int64_t>();
  const auto sequences = sequence_ids.values<std::int32_t>();
  for (const std::int32_t sequence : sequences) {
    check_sequence(sequence, num_sequences);
    std::int64_t last_group = -1;  // experts of a row ascend, so a group's slots are neighbours
    for (std::int64_t j = 0; j < top_k; ++j, ++expert) {
      check_expert(*expert, num_experts);
      ++counts[sequence * num_experts + *expert];
      const std::int64_t group = *expert / group_size;
      if (group != last_group) {
        ++group_counts[sequence * num_groups + group];
        last_group = group;
      }
    }
  }
}

void balance_backward_cpu(const RouterOptions& options, const Tensor& scores,
                          const Tensor& sequence_ids, const Tensor& coefficient, Tensor& d_scores,
                          Stream& stream) {
  const std::int64_t num_experts = options.num_experts;
  const std::int64_t num_sequences = coefficient.size(0);
  const auto* sequences = sequence_ids.data<std::int32_t>();
  const float* score_rows = scores.data<float>();
  const float* coefficients = coefficient.data<float>();
  auto* gradients = d_scores.mutable_data<float>();
  stream.parallel_for(scores.size(0), kGrainTokens, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const std::int64_t sequence = sequences[token];
      check_sequence(sequence, num_sequences);
      const float* row = score_rows + token * num_experts;
      const float* weights = coefficients + sequence * num_experts;
      float mean = 0.0F;
      float sum = 1.0F;
      if (options.score == ScoreFunction::kSigmoid) {
        sum = simd::row_sum(row, num_experts);
        mean = simd::row_dot(weights, row, num_experts) / sum;
      }
      const Floats offset = simd::broadcast(mean);
      const Floats divisor = simd::broadcast(sum);
      float* gradient = gradients + token * num_experts;
      simd::for_each_block(num_experts, [=](std::int64_t i, auto extent) {
        const Floats here = (simd::load(weights + i, extent) - offset) / divisor;
        simd::store(simd::load(gradient + i, extent) + here, gradient + i, extent);
      });
    }
  });
}

const KernelRegistration register_forward(router_forward_slot, DeviceType::kCpu,
                                          router_forward_cpu);
const KernelRegistration register_backward(router_backward_slot, DeviceType::kCpu,
                                           router_backward_cpu);
const KernelRegistration register_count(count_experts_slot, DeviceType::kCpu, count_experts_cpu);
const KernelRegistration register_statistics(balance_statistics_slot, DeviceType::kCpu,
                                             balance_statistics_cpu);
const KernelRegistration register_selection_statistics(selection_statistics_slot, DeviceType::kCpu,
                                                       selection_statistics_cpu);
const KernelRegistration register_balance_backward(balance_backward_slot, DeviceType::kCpu,
                                                   balance_backward_cpu);

}  // namespace
}  // namespace fathom::kernels
