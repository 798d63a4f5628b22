#include "rl/held_out.h"

#include <span>

#include "core/error.h"

namespace fathom::rl {
namespace {

using Values = std::vector<std::optional<double>>;

Values totals_of(const HeldOutValues& values) {
  Values totals;
  for (const Score& score : values.scores) {
    totals.push_back(score.total);
  }
  return totals;
}

Values parts_of(const HeldOutValues& values, std::size_t reward) {
  Values parts;
  for (const Score& score : values.scores) {
    parts.push_back(score.parts[reward].value);
  }
  return parts;
}

void add(const std::string& name, const std::optional<MeanOverProblems>& mean,
         std::vector<trainer::Metric>& metrics) {
  if (mean) {
    metrics.push_back({name, mean->mean});
    if (mean->standard_error) {
      metrics.push_back({name + "_error", *mean->standard_error});
    }
  }
}

void add_by_source(const std::string& name, const Values& values, std::int64_t num_samples,
                   const HeldOutProblems& problems, std::vector<trainer::Metric>& metrics) {
  std::span<const std::optional<double>> rest = values;
  for (std::size_t i = 0; i < problems.num_of_source.size(); ++i) {
    const auto count = static_cast<std::size_t>(problems.num_of_source[i] * num_samples);
    add(concat(name, "_held_out_", i), mean_over_samples(rest.first(count), num_samples), metrics);
    rest = rest.subspan(count);
  }
}

}  // namespace

std::vector<trainer::Metric> to_metrics(const HeldOutValues& values,
                                        const HeldOutProblems& problems,
                                        const std::vector<std::string>& names) {
  std::vector<trainer::Metric> metrics;
  const Values totals = totals_of(values);
  add("reward_mean", mean_over_samples(totals, values.num_samples), metrics);
  for (std::size_t i = 0; i < names.size(); ++i) {
    add("reward_" + names[i], mean_over_samples(parts_of(values, i), values.num_samples), metrics);
  }
  add("solve_rate", mean_over_samples(values.solved, values.num_samples), metrics);
  if (problems.num_of_source.size() > 1) {
    add_by_source("reward_mean", totals, values.num_samples, problems, metrics);
    if (!values.solved.empty()) {
      add_by_source("solve_rate", values.solved, values.num_samples, problems, metrics);
    }
  }
  return metrics;
}

std::string describe(const HeldOutValues& values) {
  const auto reward = mean_over_samples(totals_of(values), values.num_samples);
  if (!reward) {
    return "no completion has a verdict";
  }
  std::string text;
  if (const auto solved = mean_over_samples(values.solved, values.num_samples)) {
    text = concat(trainer::fixed(100.0 * solved->mean, 1), "% solved",
                  solved->standard_error
                      ? concat(" (+- ", trainer::fixed(100.0 * *solved->standard_error, 1), "), ")
                      : ", ");
  }
  return concat(text, "reward ", trainer::fixed(reward->mean, 3));
}

}  // namespace fathom::rl
