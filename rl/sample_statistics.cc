#include "rl/sample_statistics.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/error.h"

namespace fathom::rl {
namespace {

std::int64_t num_correct(std::span<const SampleOutcome> samples) {
  return std::ranges::count(samples, Verdict::kCorrect, &SampleOutcome::verdict);
}

// The mean of value(samples) over the problems.
template <class Value>
MeanOverProblems mean_over(std::span<const SampleOutcome> outcomes, std::int64_t num_samples,
                           Value value) {
  std::vector<double> values;
  for (std::size_t begin = 0; begin < outcomes.size();
       begin += static_cast<std::size_t>(num_samples)) {
    values.push_back(value(outcomes.subspan(begin, static_cast<std::size_t>(num_samples))));
  }
  return *mean_over_problems(values);
}

}  // namespace

std::optional<MeanOverProblems> mean_over_problems(std::span<const double> values) {
  if (values.empty()) {
    return std::nullopt;
  }
  const auto count = static_cast<double>(values.size());
  double sum = 0.0;
  for (const double value : values) {
    sum += value;
  }
  MeanOverProblems result{.mean = sum / count, .num_problems = std::ssize(values)};
  if (values.size() > 1) {
    double squares = 0.0;
    for (const double value : values) {
      squares += (value - result.mean) * (value - result.mean);
    }
    result.standard_error = std::sqrt(squares / (count * (count - 1.0)));
  }
  return result;
}

std::optional<MeanOverProblems> mean_over_samples(std::span<const std::optional<double>> values,
                                                  std::int64_t num_samples) {
  FATHOM_CHECK(num_samples >= 1 && std::ssize(values) % num_samples == 0, values.size(),
               " samples, ", num_samples, " a problem");
  const auto size = static_cast<std::size_t>(num_samples);
  std::vector<double> means;
  for (std::size_t begin = 0; begin < values.size(); begin += size) {
    double sum = 0.0;
    double count = 0.0;
    for (const std::optional<double>& value : values.subspan(begin, size)) {
      sum += value.value_or(0.0);
      count += value ? 1.0 : 0.0;
    }
    if (count > 0.0) {
      means.push_back(sum / count);
    }
  }
  return mean_over_problems(means);
}

double pass_at_k(std::int64_t num_samples, std::int64_t num_correct, std::int64_t k) {
  FATHOM_CHECK(1 <= k && k <= num_samples && 0 <= num_correct && num_correct <= num_samples, k,
               " of ", num_samples, " samples, ", num_correct, " correct");
  if (num_samples - num_correct < k) {
    return 1.0;
  }
  double none_correct = 1.0;
  for (std::int64_t i = num_samples - num_correct + 1; i <= num_samples; ++i) {
    none_correct *= 1.0 - static_cast<double>(k) / static_cast<double>(i);
  }
  return 1.0 - none_correct;
}

double majority_at_k(std::span<const SampleOutcome> samples, std::int64_t k) {
  FATHOM_CHECK(1 <= k && k <= std::ssize(samples), k, " of ", samples.size(), " samples");
  struct Answer {
    std::int64_t num_votes = 0;
    bool is_correct = false;
  };
  std::map<std::string_view, Answer> answers;
  std::int64_t most = 0;
  for (const SampleOutcome& sample : samples.first(static_cast<std::size_t>(k))) {
    if (sample.vote.empty()) {
      continue;
    }
    Answer& answer = answers[sample.vote];
    if (answer.num_votes == 0) {
      answer.is_correct = sample.verdict == Verdict::kCorrect;
    }
    most = std::max(most, ++answer.num_votes);
  }
  std::int64_t num_winners = 0;
  std::int64_t num_correct_winners = 0;
  for (const auto& [vote, answer] : answers) {
    num_winners += answer.num_votes == most ? 1 : 0;
    num_correct_winners += answer.num_votes == most && answer.is_correct ? 1 : 0;
  }
  return num_winners == 0
             ? 0.0
             : static_cast<double>(num_correct_winners) / static_cast<double>(num_winners);
}

void check_ks(std::span<const std::int64_t> ks, std::int64_t num_samples) {
  for (const std::int64_t k : ks) {
    if (k < 1 || k > num_samples) {
      throw ConfigError(concat("pass@", k, ": want a k of 1 to ", num_samples,
                               ", the number of samples of a problem; take more samples or a "
                               "smaller k"));
    }
  }
}

ProblemScores score_problems(std::span<const SampleOutcome> outcomes, std::int64_t num_samples,
                             std::span<const std::int64_t> ks) {
  FATHOM_CHECK(num_samples >= 1 && !outcomes.empty() && std::ssize(outcomes) % num_samples == 0,
               outcomes.size(), " samples, ", num_samples, " a problem");
  check_ks(ks, num_samples);
  ProblemScores scores;
  scores.num_problems = std::ssize(outcomes) / num_samples;
  scores.num_samples = std::ssize(outcomes);
  std::int64_t num_tokens = 0;
  std::int64_t num_cut_off = 0;
  for (const SampleOutcome& outcome : outcomes) {
    num_tokens += outcome.num_tokens;
    num_cut_off += outcome.is_cut_off ? 1 : 0;
  }
  const auto count = static_cast<double>(outcomes.size());
  scores.mean_tokens = static_cast<double>(num_tokens) / count;
  scores.cut_off_share = static_cast<double>(num_cut_off) / count;
  using Samples = std::span<const SampleOutcome>;
  scores.solve_rate = mean_over(outcomes, num_samples, [](Samples samples) {
    return static_cast<double>(num_correct(samples)) / static_cast<double>(samples.size());
  });
  for (const std::int64_t k : ks) {
    scores.pass_at[k] = mean_over(outcomes, num_samples, [k](Samples samples) {
      return pass_at_k(std::ssize(samples), num_correct(samples), k);
    });
    scores.majority_at[k] = mean_over(outcomes, num_samples,
                                      [k](Samples samples) { return majority_at_k(samples, k); });
  }
  return scores;
}

}  // namespace fathom::rl
