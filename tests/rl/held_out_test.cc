#include "rl/held_out.h"

#include <algorithm>
#include <cmath>

#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

std::optional<double> value_of(const std::vector<trainer::Metric>& metrics,
                               const std::string& name) {
  const auto found = std::ranges::find(metrics, name, &trainer::Metric::name);
  return found == metrics.end() ? std::nullopt : std::optional(std::get<double>(found->value));
}

Score make_score(std::optional<double> total, std::optional<double> part) {
  return {.total = total, .parts = {{total, ""}, {part, ""}}};
}

// Two samples of each of three problems, two sources.
HeldOutProblems make_problems() {
  return {
      .problems = {{"a", "?", "1", "number"}, {"b", "?", "1", "number"}, {"c", "?", "1", "number"}},
      .num_of_source = {2, 1}};
}

HeldOutSamples make_samples() {
  HeldOutSamples samples = {
      .num_of_problem = 2,
      .completions = std::vector<trainer::Completion>(6, {{1, 2}, {-1.0F, -1.0F}}),
      .scores = {make_score(1.0, 1.0), make_score(0.0, 0.0), make_score(2.0, 1.0),
                 make_score(std::nullopt, std::nullopt), make_score(-1.0, 0.0),
                 make_score(-1.0, 0.0)},
      .accuracy = 1};
  samples.completions[2] = {{1, 2, 3, 4, 5}, std::vector<float>(5), trainer::FinishReason::kLength};
  return samples;
}

}  // namespace

TEST_CASE("Held-out problems are measured by what the run rewards, pooled and by source") {
  const auto metrics = to_metrics(make_samples(), make_problems(), {"judge", "accuracy"});
  // Means of the problems: 0.5, 2 and -1.
  CHECK(value_of(metrics, "reward_mean") == 0.5);
  CHECK(value_of(metrics, "reward_mean_error") == Approx(std::sqrt(4.5 / 6.0)));
  CHECK(value_of(metrics, "reward_judge") == 0.5);
  CHECK(value_of(metrics, "reward_accuracy") == 0.5);
  CHECK(value_of(metrics, "solve_rate") == 0.5);  // of 0.5, 1 and 0
  CHECK(value_of(metrics, "solve_rate_error") == Approx(std::sqrt(0.5 / 6.0)));
  CHECK(value_of(metrics, "reward_mean_held_out_0") == 1.25);
  CHECK(value_of(metrics, "reward_mean_held_out_1") == -1.0);
  CHECK_FALSE(value_of(metrics, "reward_mean_held_out_1_error"));
  CHECK(value_of(metrics, "solve_rate_held_out_0") == 0.75);
  CHECK(value_of(metrics, "solve_rate_held_out_1") == 0.0);
  CHECK(describe(make_samples()) == "50.0% solved (+- 28.9), reward 0.500, 2.5 tokens");
}

TEST_CASE("A run that does not reward accuracy has no solve rate") {
  HeldOutSamples samples = make_samples();
  samples.accuracy.reset();
  const auto metrics = to_metrics(samples, make_problems(), {"judge", "length"});
  CHECK(value_of(metrics, "reward_mean") == 0.5);
  CHECK(std::ranges::none_of(metrics, [](const trainer::Metric& metric) {
    return metric.name.starts_with("solve_rate");
  }));
  CHECK(describe(samples) == "reward 0.500, 2.5 tokens");
}

TEST_CASE("One source has no columns of its own, and no verdict is no number") {
  HeldOutProblems problems = make_problems();
  problems.num_of_source = {3};
  const auto metrics = to_metrics(make_samples(), problems, {"judge", "accuracy"});
  CHECK(value_of(metrics, "solve_rate") == 0.5);
  CHECK_FALSE(value_of(metrics, "solve_rate_held_out_0"));
  HeldOutSamples failed = make_samples();
  failed.scores.assign(6, make_score(std::nullopt, std::nullopt));
  const auto none = to_metrics(failed, problems, {"judge", "accuracy"});
  CHECK(none.size() == 4);  // what is counted of samples alone
  CHECK(none[1].name == "eval_without_verdict");
  CHECK(std::get<std::int64_t>(none[1].value) == 6);
  CHECK(describe(failed) == "no completion has a verdict");
}

}  // namespace fathom::rl
