#include "cli/evaluation_report.h"

#include <nlohmann/json.hpp>

#include "tests/support/catch.h"

namespace fathom::cli {
namespace {

EvaluationReport full_report() {
  EvaluationReport report;
  report.checkpoint = "run/checkpoints/step-00000002";
  report.texts = {{"held-out.txt", {0.1, 0.25, 12}}};
  report.problem_source = "sorting";
  rl::ProblemScores scores;
  scores.num_problems = 2;
  scores.num_samples = 8;
  scores.solve_rate = {.mean = 0.5, .standard_error = 0.25, .num_problems = 2};
  scores.pass_at[4] = {.mean = 1.0, .standard_error = {}, .num_problems = 1};
  scores.majority_at[4] = {.mean = 0.75, .standard_error = {}, .num_problems = 1};
  scores.mean_tokens = 3.5;
  scores.cut_off_share = 0.125;
  report.problems = scores;
  return report;
}

}  // namespace

TEST_CASE("The table of an evaluation") {
  CHECK(to_table(full_report()) ==
        "run/checkpoints/step-00000002\n"
        "\n"
        "text              tokens        loss   bits/byte\n"
        "held-out.txt          12      0.1000      0.2500\n"
        "\n"
        "sorting: 2 problems, 4 samples each\n"
        "  solve rate          0.5000 +- 0.2500\n"
        "  pass@4              1.0000\n"
        "  maj@4               0.7500\n"
        "  mean length         3.5 tokens, 12.5% of the samples cut off\n");
}

TEST_CASE("The results of an evaluation as JSON, with all their bits") {
  const nlohmann::json object = nlohmann::json::parse(to_json(full_report()).dump());
  CHECK(object["texts"][0]["loss"].get<double>() == 0.1);
  CHECK(object["texts"][0]["num_tokens"] == 12);
  CHECK(object["problems"]["solve_rate"]["standard_error"] == 0.25);
  CHECK(object["problems"]["pass_at"]["4"]["mean"] == 1.0);
  CHECK(object["problems"]["pass_at"]["4"]["standard_error"].is_null());
  CHECK(object["problems"]["num_samples"] == 8);
  CHECK_FALSE(object.contains("choices"));
}

TEST_CASE("Lines of samples and questions") {
  rl::EvaluatedSample sample;
  sample.sample = 3;
  sample.completion = {{1, 2}, {-1.0F, -1.0F}, trainer::FinishReason::kStop};
  sample.text.shown = "4\xff";
  sample.judgement = {.verdict = rl::Verdict::kCorrect, .answer = "4", .reason = "whole: equal"};
  CHECK(sample_line({"a", "2 + 2 =", "4", "number"}, "Q: 2 + 2 =", sample) ==
        R"({"id":"a","sample":3,"prompt":"Q: 2 + 2 =","completion":"4�","answer":"4",)"
        R"("extracted":"4","verdict":"correct","rule":"whole: equal","num_tokens":2,)"
        R"("finish":"stop"})");
  sample.text.stop = "</a>";
  CHECK(sample_line({"a", "2 + 2 =", "4", "number"}, "", sample)
            .ends_with(R"("num_tokens":2,"finish":"stop","stop":"</a>"})"));
  CHECK(question_line({R"("q")", "", {"a", "b"}, 1}, {{-2.0, -0.5}, 1, 0}) ==
        R"({"id":"q","log_likelihoods":[-2.0,-0.5],"answer":1,"chosen":1,"chosen_per_byte":0})");
}

}  // namespace fathom::cli
