#include "rl/policy_objective.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"

namespace fathom::rl {
namespace {

// Log-probabilities from the losses of a micro-batch: by the sign alone, as the sampler has them.
std::vector<float> logprobs_at(const Tensor& losses, std::int64_t first, std::size_t count) {
  const auto part = losses.values<float>().subspan(static_cast<std::size_t>(first), count);
  std::vector<float> logprobs(count);
  std::transform(part.begin(), part.end(), logprobs.begin(), [](float loss) { return -loss; });
  return logprobs;
}

}  // namespace

LogprobRecorder::LogprobRecorder(const PolicyBatch& batch,
                                 std::span<const PolicySequence> sequences)
    : batch_(&batch), sequences_(sequences), logprobs_(sequences.size()) {}

void LogprobRecorder::weigh(int micro_batch, const Tensor& losses, Tensor& /*weights*/) {
  for (const PolicyPlace& place : batch_->places[static_cast<std::size_t>(micro_batch)]) {
    logprobs_[place.sequence] =
        logprobs_at(losses, place.first_token, sequences_[place.sequence].completion.size());
  }
}

PolicyObjective::PolicyObjective(const PolicyLossOptions& options, const PolicyBatch& batch,
                                 std::vector<Sequence> sequences)
    : options_(options), batch_(&batch), sequences_(std::move(sequences)) {}

void PolicyObjective::weigh(int micro_batch, const Tensor& losses, Tensor& weights) {
  const auto out = weights.mutable_values<float>();
  std::fill(out.begin(), out.end(), 0.0F);
  for (const PolicyPlace& place : batch_->places[static_cast<std::size_t>(micro_batch)]) {
    const Sequence& sequence = sequences_[place.sequence];
    const std::size_t size = sequence.old.size();
    const std::vector<float> policy = logprobs_at(losses, place.first_token, size);
    std::vector<double> loss(size);
    std::vector<double> logprob_grad(size);
    count(policy_loss({policy, sequence.old, sequence.reference}, sequence.advantage,
                      sequence.weight, options_, loss, logprob_grad));
    compare(policy, sequence.old);
    // The head asks for dL/d(-log pi).
    std::transform(logprob_grad.begin(), logprob_grad.end(), out.begin() + place.first_token,
                   [](double grad) { return static_cast<float>(-grad); });
  }
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
  std::vector<std::int64_t> mine;
  for (const ExactSum& sum : {loss_, kl_, old_kl_}) {
    const auto integers = sum.to_integers();
    mine.insert(mine.end(), integers.begin(), integers.end());
  }
  const std::size_t width = mine.size() / 3;
  mine.insert(mine.end(), {extremes_.num_sequences, extremes_.num_masked_sequences,
                           extremes_.num_tokens, extremes_.num_clipped_tokens, num_different_});
  const std::size_t num_sums = mine.size();
  for (const double extreme : {extremes_.ratio_min, -extremes_.ratio_max, -largest_gap_}) {
    mine.push_back(std::bit_cast<std::int64_t>(extreme));
  }
  if (!counts) {
    std::fill_n(mine.begin(), num_sums, 0);
  }
  std::vector<std::int64_t> all(mine.size() * static_cast<std::size_t>(world.world_size()));
  world.all_gather_integers(mine, all);
  std::vector<std::int64_t> sums(num_sums, 0);
  std::array<double, 3> least = {extremes_.ratio_min, -extremes_.ratio_max, -largest_gap_};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t at = i % mine.size();
    if (at < num_sums) {
      sums[at] += all[i];
    } else {
      least[at - num_sums] = std::min(least[at - num_sums], std::bit_cast<double>(all[i]));
    }
  }
  const auto value = [&](std::size_t index) {
    return ExactSum::from_integers(std::span(sums).subspan(index * width, width)).value();
  };
  PolicyReport report;
  report.statistics = {.num_sequences = sums[3 * width],
                       .num_masked_sequences = sums[3 * width + 1],
                       .num_tokens = sums[3 * width + 2],
                       .num_clipped_tokens = sums[3 * width + 3],
                       .loss = value(0),
                       .kl_sum = value(1),
                       .old_kl_sum = value(2),
                       .ratio_min = least[0],
                       .ratio_max = -least[1]};
  report.num_different = sums[3 * width + 4];
  report.largest_gap = -least[2];
  return report;
}

}  // namespace fathom::rl
