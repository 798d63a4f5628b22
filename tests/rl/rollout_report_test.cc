#include "rl/rollout_report.h"

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/file.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

RolloutSample make_sample(std::int32_t token, std::optional<double> reward,
                          const std::vector<float>& logprobs, trainer::FinishReason finish) {
  RolloutSample sample;
  sample.completion.tokens.assign(logprobs.size(), token);
  sample.completion.logprobs = logprobs;
  sample.completion.finish = finish;
  sample.score = {.total = reward, .parts = {{reward, "because"}, {std::nullopt, "no idea"}}};
  sample.advantage = reward.value_or(0.0) - 0.5;
  return sample;
}

// What the first token stands for.
trainer::CompletionText text_of(const trainer::Completion& completion) {
  const std::map<std::int32_t, std::string> texts{{4, "4"}, {5, "5\xC3"}, {6, "six"}};
  return {.shown = completion.tokens.empty() ? "" : texts.at(completion.tokens.front())};
}

// Two groups of two: rewards 1 and 0; none and 0.5.
Rollout make_rollout() {
  using trainer::FinishReason;
  Rollout rollout;
  rollout.num_rounds = 1;
  rollout.groups.resize(2);
  rollout.groups[0].problem = {"p", "2 + 2 =", "4", "number"};
  rollout.groups[0].prompt = {5, 6, 7};
  rollout.groups[0].samples = {make_sample(4, 1.0, {-1.0F, -3.0F}, FinishReason::kStop),
                               make_sample(5, 0.0, {-0.5F}, FinishReason::kLength)};
  rollout.groups[0].has_spread = true;
  rollout.groups[0].is_kept = true;
  rollout.groups[1].problem = {"q", "3 + 3 =", "6", "number"};
  rollout.groups[1].prompt = {5};
  rollout.groups[1].source = 2;
  rollout.groups[1].samples = {make_sample(0, std::nullopt, {}, FinishReason::kLength),
                               make_sample(6, 0.5, {-1.5F, -1.0F, -1.0F}, FinishReason::kStop)};
  return rollout;
}

}  // namespace

TEST_CASE("The summary of a rollout: worked out by hand") {
  const RolloutSummary summary = summarize(make_rollout(), {});
  CHECK(summary.num_groups == 2);
  CHECK(summary.num_learnt == 1);
  CHECK(summary.num_samples == 4);
  CHECK(summary.num_without_verdict == 1);
  CHECK(summary.reward_mean == 0.5);  // of 1, 0 and 0.5
  REQUIRE(summary.parts.size() == 2);
  CHECK(summary.parts[0] == 0.5);
  CHECK(summary.parts[1] == std::nullopt);
  CHECK(summary.by_source == std::vector<std::optional<double>>{0.5, std::nullopt, 0.5});
  CHECK(summary.spread_share == 0.5);
  CHECK(summary.prompt_tokens == 8);  // each prompt once for each of its samples
  CHECK(summary.completion_tokens == 6);
  CHECK(summary.longest == 3);
  CHECK(summary.mean_length == 1.5);
  CHECK(summary.truncated_share == 0.5);
  CHECK(summary.entropy == Approx(8.0 / 6.0));  // (4 + 0.5 + 3.5) nats over 6 tokens
}

TEST_CASE("A reward without any verdict has no column, others go by their names") {
  const auto metrics = to_metrics(summarize(make_rollout(), {}), {"accuracy", "judge"}, 3);
  const auto has = [&](const std::string& name) {
    return std::any_of(metrics.begin(), metrics.end(),
                       [&](const trainer::Metric& metric) { return metric.name == name; });
  };
  CHECK(has("reward_accuracy"));
  CHECK(!has("reward_judge"));
  CHECK(has("reward_mean"));
  CHECK(has("reward_mean_problems_0"));
  CHECK(!has("reward_mean_problems_1"));
  CHECK(has("reward_mean_problems_2"));
}

TEST_CASE("A group that is kept and teaches nothing is not counted as learnt") {
  Rollout rollout = make_rollout();
  CHECK(summarize(rollout, {}).num_learnt == 1);
  for (RolloutSample& sample : rollout.groups[0].samples) {
    sample.advantage = 0;
  }
  CHECK(summarize(rollout, {}).num_learnt == 0);
  CHECK(summarize(rollout, {.kl_weight = 0.1}).num_learnt == 1);
  for (RolloutSample& sample : rollout.groups[0].samples) {
    sample.score.total = std::nullopt;
  }
  CHECK(summarize(rollout, {.kl_weight = 0.1}).num_learnt == 0);
}

TEST_CASE("The first failure of a rollout is the reason of the first part without a value") {
  CHECK(first_failure(make_rollout()) == "no idea");
  CHECK(first_failure({}).empty());
}

TEST_CASE("An empty rollout has a summary of zeros") {
  const RolloutSummary summary = summarize({}, {});
  CHECK(summary.num_samples == 0);
  CHECK(!summary.reward_mean);
  CHECK(summary.mean_length == 0.0);
  CHECK(summary.entropy == 0.0);
}

TEST_CASE("Every sample becomes a line of JSON, whatever bytes it ends with") {
  const test::TemporaryFolder folder;
  const auto file = folder.path() / "samples" / "step-00000001.jsonl";
  const std::vector<std::string> names{"accuracy", "judge"};
  const PolicyLossOptions loss;
  const ReadCompletion text_of_completion = text_of;
  const SampleLines how{names, loss, text_of_completion};
  write_samples(make_rollout(), how, file);
  std::istringstream text(read_file(file));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(text, line);) {
    lines.push_back(nlohmann::json::parse(line));
  }
  REQUIRE(lines.size() == 4);
  CHECK(lines[0] == nlohmann::json::parse(R"({"id": "p", "sample": 0, "prompt": "2 + 2 =",
    "completion": "4", "answer": "4", "reward": 1.0, "rewards": {"accuracy": 1.0, "judge": null},
    "reasons": {"accuracy": "because", "judge": "no idea"}, "advantage": 0.5, "learnt": true,
    "tokens": 2, "finish": "stop", "logprob": {"mean": -2.0, "min": -3.0, "sum": -4.0}})"));
  CHECK(lines[1]["sample"] == 1);
  CHECK(lines[1]["completion"] == "5\xEF\xBF\xBD");  // U+FFFD for half a character
  CHECK(lines[1]["finish"] == "length");
  CHECK(lines[2]["reward"].is_null());
  CHECK(lines[2]["logprob"].is_null());
  CHECK(lines[2]["learnt"] == false);
  write_samples({}, how, file);
  CHECK(read_file(file).empty());
}

}  // namespace fathom::rl
