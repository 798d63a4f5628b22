#include "data/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace fathom::data {
namespace {

constexpr std::int64_t kRoundSize = 65536;
constexpr std::size_t kMaxSources = 4096;

// Integers in proportion to the weights, at least 1, that add up to kRoundSize.
std::vector<std::int64_t> shares_of(const std::vector<double>& weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int64_t> shares;
  for (const double weight : weights) {
    const auto share = std::llround(std::floor(weight / total * static_cast<double>(kRoundSize)));
    shares.push_back(std::max<std::int64_t>(1, share));
  }
  std::int64_t missing =
      kRoundSize - std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  // What rounding left over goes to those that lost most by it; what the smallest got too much is
  // paid by the largest.
  while (missing != 0) {
    std::size_t best = 0;
    double best_loss = -INFINITY;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double loss =
          weights[i] / total * static_cast<double>(kRoundSize) - static_cast<double>(shares[i]);
      const double gain = missing > 0 ? loss : shares[i] > 1 ? -loss : -INFINITY;
      if (gain > best_loss) {
        best = i;
        best_loss = gain;
      }
    }
    shares[best] += missing > 0 ? 1 : -1;
    missing += missing > 0 ? -1 : 1;
  }
  return shares;
}

}  // namespace

Mixture::Mixture(const std::vector<double>& weights) {
  if (weights.empty() || weights.size() > kMaxSources) {
    throw ConfigError(concat("data: ", weights.size(), " sources, want 1 to ", kMaxSources));
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!(weights[i] > 0.0) || !std::isfinite(weights[i])) {
      throw ConfigError(
          concat("data: weight of source ", i, " is ", weights[i], ", want a positive number"));
    }
  }
  if (weights.size() == 1) {
    share_ = {1};
    round_ = {{0, 0}};
    return;
  }
  share_ = shares_of(weights);
  std::vector<std::int64_t> taken(weights.size(), 0);
  for (std::int64_t slot = 1; slot <= kRoundSize; ++slot) {
    // The source that is furthest behind its share.
    std::size_t next = 0;
    for (std::size_t i = 1; i < weights.size(); ++i) {
      if (share_[i] * slot - taken[i] * kRoundSize >
          share_[next] * slot - taken[next] * kRoundSize) {
        next = i;
      }
    }
    round_.push_back({static_cast<std::int32_t>(next), static_cast<std::int32_t>(taken[next]++)});
  }
}

Mixture::Place Mixture::at(std::int64_t sample) const {
  FATHOM_CHECK(sample >= 0, sample);
  const auto round_size = static_cast<std::int64_t>(round_.size());
  const Slot slot = round_[static_cast<std::size_t>(sample % round_size)];
  return {slot.source,
          sample / round_size * share_[static_cast<std::size_t>(slot.source)] + slot.rank};
}

}  // namespace fathom::data
