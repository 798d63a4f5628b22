#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rl/verifiers/verifier.h"

namespace fathom::rl {

// What counts of one completion of a problem.
struct SampleOutcome {
  Verdict verdict = Verdict::kWrong;
  // The extracted answer, in a form in which equal answers are equal; empty: none.
  std::string vote;
  std::int64_t num_tokens = 0;
  bool is_cut_off = false;  // it ended because it was long enough
};

// Over problems; the standard error is that of the mean, sqrt(sum (x - mean)^2 / (m (m - 1))).
struct MeanOverProblems {
  double mean = 0.0;
  std::optional<double> standard_error = {};  // nothing for one problem alone
  std::int64_t num_problems = 0;              // that have the samples it takes

  bool operator==(const MeanOverProblems&) const = default;
};

// In the order given, in double; nothing for no value.
std::optional<MeanOverProblems> mean_over_problems(std::span<const double> values);

// values [num_problems * num_samples], a problem's back to back: the mean over problems of the mean
// over a problem's samples that have a value; problems without any are left out.
std::optional<MeanOverProblems> mean_over_samples(std::span<const std::optional<double>> values,
                                                  std::int64_t num_samples);

struct ProblemScores {
  std::int64_t num_problems = 0;
  std::int64_t num_samples = 0;
  MeanOverProblems solve_rate;  // share of a problem's samples that are correct: pass@1
  std::map<std::int64_t, MeanOverProblems> pass_at;      // by k
  std::map<std::int64_t, MeanOverProblems> majority_at;  // by k
  double mean_tokens = 0.0;
  double cut_off_share = 0.0;

  bool operator==(const ProblemScores&) const = default;
};

// Probability that one of k samples is correct, estimated without bias from n samples of which c
// are:
//   1 - C(n - c, k) / C(n, k)              Chen et al., arXiv:2107.03374, eq. 1
// taken as a product of n - c >= k factors, which neither overflow nor cancel. 1 <= k <= n.
double pass_at_k(std::int64_t num_samples, std::int64_t num_correct, std::int64_t k);

// Whether the answer that most of the first k samples give is correct. Samples without an answer
// have no vote. Answers with equally many votes share the win: the value is the share of them that
// are correct. Without any vote it is 0. An answer is correct when the first sample that gives it
// is. 1 <= k <= the number of samples.
double majority_at_k(std::span<const SampleOutcome> samples, std::int64_t k);

// Throws ConfigError for a k that is not in 1 .. num_samples.
void check_ks(std::span<const std::int64_t> ks, std::int64_t num_samples);

// outcomes [num_problems * num_samples]: a problem's samples back to back, in the order in which
// they were drawn. Sums in double, in order. Throws what check_ks() throws.
ProblemScores score_problems(std::span<const SampleOutcome> outcomes, std::int64_t num_samples,
                             std::span<const std::int64_t> ks);

}  // namespace fathom::rl
