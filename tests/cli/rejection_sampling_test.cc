#include "cli/rejection_sampling.h"

#include "tests/support/catch.h"

namespace fathom::cli {
namespace {

rl::EvaluatedSample sample(std::size_t problem, const std::string& text, rl::Verdict verdict,
                           trainer::FinishReason finish = trainer::FinishReason::kStop) {
  rl::EvaluatedSample made;
  made.problem = problem;
  made.judged_text = text;
  made.judgement.verdict = verdict;
  made.completion.finish = finish;
  return made;
}

}  // namespace

TEST_CASE("Rejection sampling keeps the first different correct samples of each problem") {
  const std::vector<rl::Problem> problems = {{"a", "1 + 1 =", "2", "number"},
                                             {"b", "2 + 2 =", "4", "number"},
                                             {"c", "3 + 3 =", "6", "number"}};
  const std::vector<rl::EvaluatedSample> samples = {
      sample(0, "3", rl::Verdict::kWrong),
      sample(0, "2", rl::Verdict::kCorrect),
      sample(0, "2", rl::Verdict::kCorrect),  // once more
      sample(0, "so 2", rl::Verdict::kCorrect),
      sample(0, "thus 2", rl::Verdict::kCorrect),                             // a third one
      sample(1, "4", rl::Verdict::kCorrect, trainer::FinishReason::kLength),  // cut off
      sample(1, "4 \"quoted\"", rl::Verdict::kCorrect),
      sample(2, "5", rl::Verdict::kWrong),
  };
  CHECK(accepted_lines(problems, samples, {"Q: {prompt}", "<think>"}, 2) ==
        "{\"prompt\":\"Q: 1 + 1 =\",\"completion\":\"<think>2\"}\n"
        "{\"prompt\":\"Q: 1 + 1 =\",\"completion\":\"<think>so 2\"}\n"
        "{\"prompt\":\"Q: 2 + 2 =\",\"completion\":\"<think>4 \\\"quoted\\\"\"}\n");
  CHECK(accepted_lines(problems, {}, {}, 2).empty());
}

}  // namespace fathom::cli
