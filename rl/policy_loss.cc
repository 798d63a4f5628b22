#include "rl/policy_loss.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/error.h"

namespace fathom::rl {
namespace {

// A term of one token and its derivative with respect to the token's log-probability.
struct Term {
  double value = 0;
  double grad = 0;
  bool is_clipped = false;
};

double clip(double ratio, const PolicyLossOptions& options) {
  return std::clamp(ratio, 1.0 - options.clip_low, 1.0 + options.clip_high);
}

// min(ratio A, clip(ratio) A), where d(ratio)/d(log pi) = ratio.
Term clipped_surrogate(double ratio, double advantage, const PolicyLossOptions& options) {
  const double unclipped = ratio * advantage;
  const double clipped = clip(ratio, options) * advantage;
  return clipped < unclipped ? Term{.value = clipped, .grad = 0, .is_clipped = true}
                             : Term{.value = unclipped, .grad = unclipped, .is_clipped = false};
}

Term weighted_surrogate(double ratio, double logprob, double advantage,
                        const PolicyLossOptions& options) {
  const double bounded = clip(ratio, options);
  return {.value = bounded * advantage * logprob,
          .grad = bounded * advantage,
          .is_clipped = bounded != ratio};
}

Term kl_term(double log_reference_ratio, double ratio, KlEstimator estimator) {
  const double reference_ratio = std::exp(log_reference_ratio);
  const double k3 = reference_ratio - log_reference_ratio - 1.0;
  if (estimator == KlEstimator::kK3) {
    return {.value = k3, .grad = 1.0 - reference_ratio};
  }
  // d(rho k3) = rho k3 + rho (1 - r) = -rho log r: the gradient of the exact KL divergence.
  return {.value = ratio * k3, .grad = -ratio * log_reference_ratio};
}

// 1/T sum_t log(pi / pi_before)
double mean_log_ratio(std::span<const float> policy, std::span<const float> before) {
  double sum = 0;
  for (std::size_t t = 0; t < policy.size(); ++t) {
    sum += static_cast<double>(policy[t]) - static_cast<double>(before[t]);
  }
  return sum / static_cast<double>(policy.size());
}

// By what the sampler drew by, so that its distance from the trainer counts beside that of the
// weights.
bool is_off_policy(const SequenceLogprobs& logprobs, double advantage,
                   const PolicyLossOptions& options) {
  if (!options.off_policy_threshold || advantage >= 0) {
    return false;
  }
  const auto sampled = logprobs.sampled.empty() ? logprobs.old : logprobs.sampled;
  return -mean_log_ratio(logprobs.policy, sampled) > *options.off_policy_threshold;
}

void check_lengths(const SequenceLogprobs& logprobs, const PolicyLossOptions& options,
                   std::size_t loss_size, std::size_t grad_size) {
  const std::size_t size = logprobs.policy.size();
  FATHOM_CHECK(size > 0, "an empty completion");
  FATHOM_CHECK(logprobs.old.size() == size, logprobs.old.size(), " old log-probabilities for ",
               size, " tokens");
  FATHOM_CHECK(options.kl_weight == 0 || logprobs.reference.size() == size,
               logprobs.reference.size(), " reference log-probabilities for ", size, " tokens");
  FATHOM_CHECK(logprobs.sampled.empty() || logprobs.sampled.size() == size, logprobs.sampled.size(),
               " sampled log-probabilities for ", size, " tokens");
  FATHOM_CHECK(loss_size == size && grad_size == size, "outputs of ", loss_size, " and ", grad_size,
               " tokens for ", size);
}

}  // namespace

void validate(const PolicyLossOptions& options) {
  std::string problems;
  const auto require = [&](bool holds, const std::string& problem) {
    problems += holds ? "" : concat(problems.empty() ? "" : "; ", problem);
  };
  const auto is_at_least_zero = [](double value) { return std::isfinite(value) && value >= 0; };
  require(is_at_least_zero(options.clip_low),
          concat("clip_low is ", options.clip_low, ", want 0 or more: it is the distance below 1"));
  require(
      is_at_least_zero(options.clip_high),
      concat("clip_high is ", options.clip_high, ", want 0 or more: it is the distance above 1"));
  require(is_at_least_zero(options.kl_weight),
          concat("kl_weight is ", options.kl_weight,
                 ", want 0 or more: below 0 it would drive the policy away from its reference"));
  if (options.normalization == LossNormalization::kConstant) {
    require(std::isfinite(options.constant_tokens) && options.constant_tokens > 0,
            concat("constant_tokens is ", options.constant_tokens,
                   ", want more than 0: the loss is divided by it"));
  }
  if (options.off_policy_threshold) {
    require(is_at_least_zero(*options.off_policy_threshold),
            concat("off_policy_threshold is ", *options.off_policy_threshold,
                   ", want 0 or more: below 0 it would mask what the policy itself sampled"));
  }
  if (!problems.empty()) {
    throw ConfigError(concat("policy loss: ", problems));
  }
}

bool takes_part(const SequenceInfo& sequence, const PolicyLossOptions& options) {
  return sequence.has_reward && !(options.masks_truncated && sequence.is_truncated);
}

double token_weight(const BatchCounts& batch, std::int64_t num_tokens,
                    const PolicyLossOptions& options) {
  FATHOM_CHECK(num_tokens > 0 && num_tokens <= batch.num_tokens && batch.num_sequences > 0,
               num_tokens, " tokens in a batch of ", batch.num_tokens, " tokens and ",
               batch.num_sequences, " sequences");
  const auto num_sequences = static_cast<double>(batch.num_sequences);
  switch (options.normalization) {
    case LossNormalization::kPerSample:
      return 1.0 / (num_sequences * static_cast<double>(num_tokens));
    case LossNormalization::kPerToken:
      return 1.0 / static_cast<double>(batch.num_tokens);
    case LossNormalization::kConstant:
      return 1.0 / (num_sequences * options.constant_tokens);
  }
  return 0;
}

void PolicyStatistics::add(const PolicyStatistics& other) {
  num_sequences += other.num_sequences;
  num_masked_sequences += other.num_masked_sequences;
  num_tokens += other.num_tokens;
  num_clipped_tokens += other.num_clipped_tokens;
  loss += other.loss;
  kl_sum += other.kl_sum;
  old_kl_sum += other.old_kl_sum;
  ratio_min = std::min(ratio_min, other.ratio_min);
  ratio_max = std::max(ratio_max, other.ratio_max);
}

PolicyStatistics policy_loss(const SequenceLogprobs& logprobs, double advantage, double weight,
                             const PolicyLossOptions& options, std::span<double> loss,
                             std::span<double> logprob_grad) {
  check_lengths(logprobs, options, loss.size(), logprob_grad.size());
  const double sequence_ratio = std::exp(mean_log_ratio(logprobs.policy, logprobs.old));
  const bool is_masked = is_off_policy(logprobs, advantage, options);
  PolicyStatistics statistics{.num_sequences = 1,
                              .num_masked_sequences = is_masked ? 1 : 0,
                              .num_tokens = static_cast<std::int64_t>(logprobs.policy.size())};
  for (std::size_t t = 0; t < logprobs.policy.size(); ++t) {
    const double logprob = logprobs.policy[t];
    const double log_ratio = logprob - static_cast<double>(logprobs.old[t]);
    const double token_ratio = std::exp(log_ratio);
    const double ratio = options.surrogate == Surrogate::kSequence ? sequence_ratio : token_ratio;
    Term surrogate;
    if (!is_masked) {
      // Of kSequence: sum_t s A has the derivative T s A / T, the same for each token.
      surrogate = options.surrogate == Surrogate::kWeighted
                      ? weighted_surrogate(ratio, logprob, advantage, options)
                      : clipped_surrogate(ratio, advantage, options);
    }
    Term kl;
    if (options.kl_weight != 0) {
      const double log_reference_ratio = static_cast<double>(logprobs.reference[t]) - logprob;
      kl = kl_term(log_reference_ratio, token_ratio, options.kl_estimator);
    }
    loss[t] = weight * (options.kl_weight * kl.value - surrogate.value);
    logprob_grad[t] = weight * (options.kl_weight * kl.grad - surrogate.grad);
    statistics.num_clipped_tokens += surrogate.is_clipped ? 1 : 0;
    statistics.loss += loss[t];
    statistics.kl_sum += kl.value;
    statistics.old_kl_sum -= log_ratio;
    statistics.ratio_min = std::min(statistics.ratio_min, ratio);
    statistics.ratio_max = std::max(statistics.ratio_max, ratio);
  }
  return statistics;
}

}  // namespace fathom::rl
