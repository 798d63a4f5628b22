#include "rl/policy_objective.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "core/host_copy.h"
#include "parallel/comm/sums.h"

namespace fathom::rl {
namespace {

// Log-probabilities from the losses of a micro-batch: by the sign alone, as the sampler has them.
std::vector<float> logprobs_at(std::span<const float> losses, std::int64_t first,
                               std::size_t count) {
  const auto part = losses.subspan(static_cast<std::size_t>(first), count);
  std::vector<float> logprobs(count);
  std::transform(part.begin(), part.end(), logprobs.begin(), [](float loss) { return -loss; });
  return logprobs;
}

}  // namespace

LogprobRecorder::LogprobRecorder(const PolicyBatch& batch,
                                 std::span<const PolicySequence> sequences)
    : batch_(&batch), sequences_(sequences), logprobs_(sequences.size()) {}

void LogprobRecorder::weigh(int micro_batch, const Tensor& losses, Tensor& /*weights*/,
                            Stream& stream) {
  const std::vector<float> values = to_host<float>(losses, stream);
  for (const PolicyPlace& place : batch_->places[static_cast<std::size_t>(micro_batch)]) {
    logprobs_[place.sequence] =
        logprobs_at(values, place.first_token, sequences_[place.sequence].completion.size());
  }
}

PolicyObjective::PolicyObjective(const PolicyLossOptions& options, const PolicyBatch& batch,
                                 std::vector<Sequence> sequences)
    : options_(options), batch_(&batch), sequences_(std::move(sequences)) {}

void PolicyObjective::weigh(int micro_batch, const Tensor& losses, Tensor& weights,
                            Stream& stream) {
  const std::vector<float> values = to_host<float>(losses, stream);
  std::vector<float> out(values.size(), 0.0F);
  for (const PolicyPlace& place : batch_->places[static_cast<std::size_t>(micro_batch)]) {
    const Sequence& sequence = sequences_[place.sequence];
    const std::size_t size = sequence.old.size();
    const std::vector<float> policy = logprobs_at(values, place.first_token, size);
    std::vector<double> loss(size);
    std::vector<double> logprob_grad(size);
    count(policy_loss({policy, sequence.old, sequence.reference, sequence.sampled},
                      sequence.advantage, sequence.weight, options_, loss, logprob_grad));
    compare(policy, sequence.old);
    // The head asks for dL/d(-log pi).
    std::transform(logprob_grad.begin(), logprob_grad.end(), out.begin() + place.first_token,
                   [](double grad) { return static_cast<float>(-grad); });
  }
  from_host<float>(out, weights, stream);
}

void PolicyObjective::count(const PolicyStatistics& statistics) {
  loss_.add(statistics.loss);
  kl_.add(statistics.kl_sum);
  old_kl_.add(statistics.old_kl_sum);
  extremes_.add(statistics);
}

void PolicyObjective::compare(std::span<const float> policy, std::span<const float> old) {
  for (std::size_t t = 0; t < policy.size(); ++t) {
    num_different_ +=
        std::bit_cast<std::uint32_t>(policy[t]) != std::bit_cast<std::uint32_t>(old[t]) ? 1 : 0;
    largest_gap_ = std::max(largest_gap_,
                            std::abs(static_cast<double>(policy[t]) - static_cast<double>(old[t])));
  }
}

PolicyReport PolicyObjective::report(bool counts, parallel::Communicator& world) const {
  // The other tensor ranks have the same sequences: they add nothing.
  const PolicyStatistics mine = counts ? extremes_ : PolicyStatistics{};
  const std::array<ExactSum, 3> exact =
      counts ? std::array{loss_, kl_, old_kl_} : std::array<ExactSum, 3>{};
  const std::vector<double> sums = parallel::sum_exactly(exact, world);
  const std::vector<std::int64_t> numbers = parallel::sum_integers(
      std::array{mine.num_sequences, mine.num_masked_sequences, mine.num_tokens,
                 mine.num_clipped_tokens, counts ? num_different_ : std::int64_t{0}},
      world);
  const std::array<std::int64_t, 3> extremes = {std::bit_cast<std::int64_t>(extremes_.ratio_min),
                                                std::bit_cast<std::int64_t>(extremes_.ratio_max),
                                                std::bit_cast<std::int64_t>(largest_gap_)};
  std::vector<std::int64_t> all(extremes.size() * static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers(extremes, all);
  PolicyReport report;
  report.statistics = {.num_sequences = numbers[0],
                       .num_masked_sequences = numbers[1],
                       .num_tokens = numbers[2],
                       .num_clipped_tokens = numbers[3],
                       .loss = sums[0],
                       .kl_sum = sums[1],
                       .old_kl_sum = sums[2]};
  report.num_different = numbers[4];
  for (std::size_t i = 0; i < all.size(); i += extremes.size()) {
    const auto extreme = [&](std::size_t k) { return std::bit_cast<double>(all[i + k]); };
    report.statistics.ratio_min = std::min(report.statistics.ratio_min, extreme(0));
    report.statistics.ratio_max = std::max(report.statistics.ratio_max, extreme(1));
    report.largest_gap = std::max(report.largest_gap, extreme(2));
  }
  return report;
}

}  // namespace fathom::rl
