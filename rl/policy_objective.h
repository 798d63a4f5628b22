#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/exact_sum.h"
#include "model/token_loss.h"
#include "parallel/comm/communicator.h"
#include "rl/policy_batch.h"
#include "rl/policy_loss.h"

namespace fathom::rl {

// Log-probabilities of the sequences of a mini-batch, by sequence; empty where another rank has it.
using Logprobs = std::vector<std::vector<float>>;

// Writes down the log-probabilities of the sequences as a pass comes by them.
class LogprobRecorder final : public model::TokenLoss {
 public:
  // Both outlive the recorder. lengths [sequences]: tokens of each completion.
  LogprobRecorder(const PolicyBatch& batch, std::span<const PolicySequence> sequences);
  void weigh(int micro_batch, const Tensor& losses, Tensor& weights, Stream& stream) override;
  Logprobs take() { return std::move(logprobs_); }

 private:
  const PolicyBatch* batch_;
  std::span<const PolicySequence> sequences_;
  Logprobs logprobs_;
};

// What a pass over a mini-batch tells, over all ranks.
struct PolicyReport {
  PolicyStatistics statistics;
  // Largest |log pi - log pi_old| of a token, and how many tokens have other bits.
  double largest_gap = 0;
  std::int64_t num_different = 0;
};

// The policy loss of a mini-batch as a pass comes by its sequences.
class PolicyObjective final : public model::TokenLoss {
 public:
  // What is known of a sequence before the pass.
  struct Sequence {
    std::span<const float> old;
    std::span<const float> reference = {};  // empty where there is none
    std::span<const float> sampled = {};    // as SequenceLogprobs has them
    double advantage = 0;
    double weight = 0;  // token_weight()
  };
  // `batch` outlives the objective; sequences by their index in it. A sequence whose `old` is empty
  // is another rank's.
  PolicyObjective(const PolicyLossOptions& options, const PolicyBatch& batch,
                  std::vector<Sequence> sequences);
  void weigh(int micro_batch, const Tensor& losses, Tensor& weights, Stream& stream) override;

  // Collective over `world`: sums and extremes over the sequences, exact, so that they do not
  // depend on the layout. `counts`: whether this rank's are to be counted; those of other tensor
  // ranks are the same.
  PolicyReport report(bool counts, parallel::Communicator& world) const;

 private:
  void count(const PolicyStatistics& statistics);
  void compare(std::span<const float> policy, std::span<const float> old);

  PolicyLossOptions options_;
  const PolicyBatch* batch_;
  std::vector<Sequence> sequences_;
  PolicyStatistics extremes_;  // and counts
  ExactSum loss_, kl_, old_kl_;
  double largest_gap_ = 0;
  std::int64_t num_different_ = 0;
};

}  // namespace fathom::rl
