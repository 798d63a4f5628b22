#include "rl/sample_statistics.h"

#include <cmath>

#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

constexpr Verdict kCorrect = Verdict::kCorrect;
constexpr Verdict kWrong = Verdict::kWrong;

// Share of the subsets of k of n samples, of which the first c are correct, with a correct one.
double pass_by_enumeration(int n, int c, int k) {
  int num_subsets = 0;
  int num_passing = 0;
  for (unsigned subset = 0; subset < (1U << static_cast<unsigned>(n)); ++subset) {
    if (__builtin_popcount(subset) != k) {
      continue;
    }
    ++num_subsets;
    num_passing += (subset & ((1U << static_cast<unsigned>(c)) - 1U)) != 0 ? 1 : 0;
  }
  return static_cast<double>(num_passing) / num_subsets;
}

SampleOutcome outcome(const std::string& vote, Verdict verdict, std::int64_t num_tokens = 1,
                      bool is_cut_off = false) {
  return {.verdict = verdict, .vote = vote, .num_tokens = num_tokens, .is_cut_off = is_cut_off};
}

}  // namespace

TEST_CASE("pass@k is the share of the sets of k samples that hold a correct one") {
  for (int n = 1; n <= 10; ++n) {
    for (int c = 0; c <= n; ++c) {
      for (int k = 1; k <= n; ++k) {
        INFO("n = " << n << ", c = " << c << ", k = " << k);
        CHECK(pass_at_k(n, c, k) == Approx(pass_by_enumeration(n, c, k)).margin(1e-14));
      }
    }
  }
  CHECK(pass_at_k(4, 1, 2) == Approx(0.5));       // 1 - C(3, 2) / C(4, 2) = 1 - 3 / 6
  CHECK(pass_at_k(5, 2, 3) == Approx(0.9));       // 1 - C(3, 3) / C(5, 3) = 1 - 1 / 10
  CHECK(pass_at_k(1000, 1, 500) == Approx(0.5));  // C(1000, 500) is beyond a double's integers
  CHECK(pass_at_k(100'000, 10, 1) == Approx(1e-4));
  CHECK(pass_at_k(7, 0, 7) == 0.0);
  CHECK(pass_at_k(7, 7, 1) == 1.0);
  CHECK_THROWS_AS(pass_at_k(3, 1, 4), InternalError);
  CHECK_THROWS_AS(pass_at_k(3, 4, 1), InternalError);
  CHECK_THROWS_AS(pass_at_k(3, 1, 0), InternalError);
}

TEST_CASE("maj@k asks the answer that most of the first k samples give") {
  const std::vector<SampleOutcome> samples{outcome("7", kWrong), outcome("12", kCorrect),
                                           outcome("", kWrong),  outcome("12", kCorrect),
                                           outcome("7", kWrong), outcome("7", kWrong)};
  CHECK(majority_at_k(samples, 1) == 0.0);
  CHECK(majority_at_k(samples, 2) == 0.5);  // one vote each
  CHECK(majority_at_k(samples, 3) == 0.5);  // no answer is no vote
  CHECK(majority_at_k(samples, 4) == 1.0);
  CHECK(majority_at_k(samples, 5) == 0.5);
  CHECK(majority_at_k(samples, 6) == 0.0);
  const std::vector<SampleOutcome> silent(3, outcome("", kWrong));
  CHECK(majority_at_k(silent, 3) == 0.0);
  const std::vector<SampleOutcome> three{outcome("1", kWrong), outcome("2", kCorrect),
                                         outcome("3", kWrong)};
  CHECK(majority_at_k(three, 3) == Approx(1.0 / 3.0));
  CHECK_THROWS_AS(majority_at_k(three, 4), InternalError);
}

TEST_CASE("Scores of problems, by hand") {
  const std::vector<SampleOutcome> outcomes{
      // 1 of 4 correct: pass@2 = 0.5, maj@2 = 0.5, maj@4: 5 has two votes
      outcome("3", kCorrect, 2), outcome("5", kWrong, 4), outcome("5", kWrong, 6),
      outcome("", kWrong, 8, true),
      // 3 of 4 correct: pass@2 = 1 - C(1, 2) / C(4, 2) = 1, maj@2 = 0.5
      outcome("9", kCorrect, 1), outcome("8", kWrong, 3, true), outcome("9", kCorrect, 1),
      outcome("9", kCorrect, 3),
      // 0 of 4
      outcome("1", kWrong, 1), outcome("1", kWrong, 1), outcome("1", kWrong, 1),
      outcome("1", kWrong, 1)};
  const std::vector<std::int64_t> ks{1, 2, 4};
  const ProblemScores scores = score_problems(outcomes, 4, ks);
  CHECK(scores.num_problems == 3);
  CHECK(scores.num_samples == 12);
  CHECK(scores.mean_tokens == Approx(32.0 / 12.0));
  CHECK(scores.cut_off_share == Approx(2.0 / 12.0));
  CHECK(scores.solve_rate.mean == Approx((0.25 + 0.75 + 0.0) / 3.0));
  // deviations -1/12, 5/12, -4/12: squares 1/144 + 25/144 + 16/144 = 42/144; / (3 * 2)
  REQUIRE(scores.solve_rate.standard_error);
  CHECK(*scores.solve_rate.standard_error == Approx(std::sqrt(42.0 / 144.0 / 6.0)));
  CHECK(scores.pass_at.at(1).mean == Approx(scores.solve_rate.mean));
  CHECK(scores.pass_at.at(2).mean == Approx((0.5 + 1.0 + 0.0) / 3.0));
  CHECK(scores.pass_at.at(2).num_problems == 3);
  CHECK(scores.pass_at.at(4).mean == Approx((1.0 + 1.0 + 0.0) / 3.0));
  CHECK(scores.majority_at.at(1).mean == Approx((1.0 + 1.0 + 0.0) / 3.0));
  CHECK(scores.majority_at.at(2).mean == Approx((0.5 + 0.5 + 0.0) / 3.0));
  CHECK(scores.majority_at.at(4).mean == Approx((0.0 + 1.0 + 0.0) / 3.0));
}

TEST_CASE("Scores of one problem have no standard error, and no k above the samples") {
  const std::vector<SampleOutcome> one{outcome("x", kCorrect), outcome("y", kWrong)};
  const ProblemScores alone = score_problems(one, 2, {});
  CHECK(alone.solve_rate.mean == 0.5);
  CHECK_FALSE(alone.solve_rate.standard_error);
  CHECK_THROWS_WITH(score_problems(one, 2, std::vector<std::int64_t>{3}),
                    Catch::Contains("pass@3: want a k of 1 to 2"));
  CHECK_THROWS_AS(score_problems(one, 2, std::vector<std::int64_t>{0}), ConfigError);
}

TEST_CASE("A mean over samples is one over problems, of those that have a value") {
  const std::vector<std::optional<double>> values{1.0,          0.0,          std::nullopt,
                                                  std::nullopt, std::nullopt, 2.0};
  const auto mean = mean_over_samples(values, 2);
  REQUIRE(mean);
  CHECK(mean->mean == 1.25);  // of 0.5 and 2
  CHECK(mean->num_problems == 2);
  CHECK(mean->standard_error == Approx(0.75));
  CHECK_FALSE(mean_over_samples({}, 2));
  CHECK_THROWS_AS(mean_over_samples(values, 4), InternalError);
}

}  // namespace fathom::rl
