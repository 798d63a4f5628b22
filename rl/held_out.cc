#include "rl/held_out.h"

#include <algorithm>
#include <span>

#include "core/error.h"
#include "rl/sample_statistics.h"

namespace fathom::rl {
namespace {

using Values = std::vector<std::optional<double>>;

Values totals_of(const HeldOutSamples& samples) {
  Values totals;
  for (const Score& score : samples.scores) {
    totals.push_back(score.total);
  }
  return totals;
}

Values parts_of(const HeldOutSamples& samples, std::size_t reward) {
  Values parts;
  for (const Score& score : samples.scores) {
    parts.push_back(score.parts[reward].value);
  }
  return parts;
}

double share_cut_off(const HeldOutSamples& samples) {
  const auto num_cut_off = std::ranges::count(samples.completions, trainer::FinishReason::kLength,
                                              &trainer::Completion::finish);
  return static_cast<double>(num_cut_off) / static_cast<double>(samples.completions.size());
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

double HeldOutSamples::mean_length() const {
  std::int64_t num_tokens = 0;
  for (const trainer::Completion& completion : completions) {
    num_tokens += std::ssize(completion.tokens);
  }
  return static_cast<double>(num_tokens) / static_cast<double>(completions.size());
}

std::vector<trainer::Metric> to_metrics(const HeldOutSamples& samples,
                                        const HeldOutProblems& problems,
                                        const std::vector<std::string>& names) {
  const std::int64_t num_samples = samples.num_of_problem;
  const Values totals = totals_of(samples);
  std::vector<trainer::Metric> metrics = {
      {"eval_problems", std::ssize(problems.problems)},
      {"eval_without_verdict",
       std::int64_t{std::ranges::count_if(
           totals, [](const std::optional<double>& total) { return !total.has_value(); })}},
      {"eval_length_mean", samples.mean_length()},
      {"eval_truncated_share", share_cut_off(samples)}};
  add("reward_mean", mean_over_samples(totals, num_samples), metrics);
  for (std::size_t i = 0; i < names.size(); ++i) {
    add("reward_" + names[i], mean_over_samples(parts_of(samples, i), num_samples), metrics);
  }
  const Values solved = samples.accuracy ? parts_of(samples, *samples.accuracy) : Values();
  add("solve_rate", mean_over_samples(solved, num_samples), metrics);
  if (problems.num_of_source.size() > 1) {
    add_by_source("reward_mean", totals, num_samples, problems, metrics);
    if (samples.accuracy) {
      add_by_source("solve_rate", solved, num_samples, problems, metrics);
    }
  }
  return metrics;
}

std::string describe(const HeldOutSamples& samples) {
  const auto reward = mean_over_samples(totals_of(samples), samples.num_of_problem);
  if (!reward) {
    return "no completion has a verdict";
  }
  std::string text;
  if (samples.accuracy) {
    const auto solved =
        mean_over_samples(parts_of(samples, *samples.accuracy), samples.num_of_problem);
    if (solved) {
      text = concat(trainer::fixed(100.0 * solved->mean, 1), "% solved",
                    solved->standard_error
                        ? concat(" (+- ", trainer::fixed(100.0 * *solved->standard_error, 1), "), ")
                        : ", ");
    }
  }
  return concat(text, "reward ", trainer::fixed(reward->mean, 3), ", ",
                trainer::fixed(samples.mean_length(), 1), " tokens");
}

}  // namespace fathom::rl
