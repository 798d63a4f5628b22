#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>

namespace fathom::rl {

// What is maximised, with rho = pi / pi_old, A the advantage, a token t of a sequence of T tokens:
enum class Surrogate {
  // min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A)
  //   GRPO, arXiv:2402.03300, eq. 3; clip_high apart: DAPO, arXiv:2503.14476, eq. 8
  kToken,
  // the same with s = exp(1/T sum_t log rho_t) in place of every rho_t
  //   GSPO, arXiv:2507.18071, eq. 5 and 7
  kSequence,
  // sg(clip(rho_t, 1 - clip_low, 1 + clip_high)) A log pi_t, sg: no gradient through it
  //   CISPO, arXiv:2506.13585, eq. 4 and 5
  kWeighted,
};

// What a token's term is divided by; N sequences and M tokens in the whole mini-batch.
enum class LossNormalization {
  kPerSample,  // N T          GRPO
  kPerToken,   // M            DAPO
  kConstant,   // N constant_tokens     Dr. GRPO, arXiv:2503.20783
};

enum class KlEstimator {
  kK3,        // k3 = pi_ref / pi - log(pi_ref / pi) - 1        arXiv:2402.03300, eq. 4
  kUnbiased,  // rho_t k3: right in value and gradient off policy too     DeepSeek-V3.2, sec. 3
};

struct PolicyLossOptions {
  Surrogate surrogate = Surrogate::kToken;
  LossNormalization normalization = LossNormalization::kPerSample;
  double constant_tokens = 0;  // of kConstant: the most tokens that a completion may have
  double clip_low = 0.2;       // 1 and above: never from below
  double clip_high = 0.2;
  double kl_weight = 0;  // beta; 0: no reference is needed
  KlEstimator kl_estimator = KlEstimator::kK3;
  // Leave out sequences that were cut off at the limit of tokens (DAPO, sec. 3.4).
  bool masks_truncated = false;
  // delta: a sequence with A < 0 and 1/T sum_t log(pi_sampled / pi) > delta has no policy term,
  // only that of the KL (off-policy sequence masking, DeepSeek-V3.2, sec. 3).
  std::optional<double> off_policy_threshold = std::nullopt;
};

// Throws ConfigError naming each setting that makes no sense, and why.
void validate(const PolicyLossOptions& options);

// A completion: log-probabilities in nats, one per token.
struct SequenceLogprobs {
  std::span<const float> policy;          // under the weights being trained
  std::span<const float> old;             // under those that sampled it, as the trainer computes it
  std::span<const float> reference = {};  // empty when kl_weight is 0
  std::span<const float> sampled = {};    // what the sampler drew by; empty: `old`
};

struct SequenceInfo {
  double advantage = 0;
  bool has_reward = true;     // false: no verdict
  bool is_truncated = false;  // cut off at the limit of tokens
};

// Whether a sequence counts: it has a verdict, and is not masked for being cut off. One that does
// not is left out of the BatchCounts and never given to policy_loss().
bool takes_part(const SequenceInfo& sequence, const PolicyLossOptions& options);

// Of all sequences that take part in a mini-batch, over all ranks.
struct BatchCounts {
  std::int64_t num_sequences = 0;  // N
  std::int64_t num_tokens = 0;     // M
};

// 1 / (what a token's term of a sequence of num_tokens tokens is divided by).
double token_weight(const BatchCounts& batch, std::int64_t num_tokens,
                    const PolicyLossOptions& options);

// What is reported; sums and extremes, so that those of several sequences can be put together.
struct PolicyStatistics {
  std::int64_t num_sequences = 0;
  std::int64_t num_masked_sequences = 0;  // by off_policy_threshold
  std::int64_t num_tokens = 0;
  std::int64_t num_clipped_tokens = 0;  // whose ratio's bound was taken (kSequence: all or none)
  double loss = 0;
  double kl_sum = 0;      // of the estimator, unweighted, over tokens; 0 without a reference
  double old_kl_sum = 0;  // log(pi_old / pi) over tokens: how far the policy has moved
  double ratio_min = std::numeric_limits<double>::infinity();  // of tokens, or s of kSequence
  double ratio_max = -std::numeric_limits<double>::infinity();

  // In an order that does not depend on the layout, if the sums are to have the same bits.
  void add(const PolicyStatistics& other);
};

// The loss to minimise of one sequence, and its derivative:
//   loss_t = weight (beta KL_t - surrogate_t),     dL/d(log pi_t) with L = sum_t loss_t
// The derivative goes through rho of the surrogate and of kUnbiased.
//   weight  token_weight() of the sequence
//   loss, logprob_grad  [T] out
// All in double; sums over the tokens serial by position. Where policy and old have the same bits
// rho is exactly 1. A log-probability of -inf gives losses that are not finite, which are returned
// as they are. Pure. Throws InternalError when lengths differ, T is 0 or a reference is missing.
PolicyStatistics policy_loss(const SequenceLogprobs& logprobs, double advantage, double weight,
                             const PolicyLossOptions& options, std::span<double> loss,
                             std::span<double> logprob_grad);

}  // namespace fathom::rl
