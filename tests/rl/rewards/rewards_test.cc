#include <cmath>

#include "core/error.h"
#include "rl/rewards/accuracy_reward.h"
#include "rl/rewards/format_reward.h"
#include "rl/rewards/language_reward.h"
#include "rl/rewards/length_reward.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

const Problem kProblem{"1", "2 + 2 =\n", "4", "number"};

RewardValue score(const Reward& reward, std::string_view completion, std::int64_t num_tokens = 0) {
  const auto verifier = make_verifier(kProblem.verifier, kProblem.answer);
  return reward.score({&kProblem, verifier.get(), completion, num_tokens});
}

// Gives a completion's length as its value, nothing to an empty one.
class FakeReward final : public Reward {
 public:
  explicit FakeReward(int num_at_once = 1) : num_at_once_(num_at_once) {}
  RewardValue score(const RewardInput& input) const override {
    const auto size = static_cast<double>(input.completion.size());
    return {input.completion.empty() ? std::nullopt : std::optional(size), "its length"};
  }
  int num_at_once() const override { return num_at_once_; }

 private:
  int num_at_once_;
};

std::vector<WeightedReward> fakes(const std::vector<std::pair<std::string, double>>& weights) {
  std::vector<WeightedReward> rewards;
  for (const auto& [name, weight] : weights) {
    rewards.push_back({name, weight, std::make_unique<FakeReward>()});
  }
  return rewards;
}

}  // namespace

TEST_CASE("Accuracy: right, wrong, none, beyond all limits") {
  const AccuracyReward reward({});
  CHECK(score(reward, "<answer>4</answer>") == RewardValue{1.0, "answer tag: same text"});
  CHECK(score(reward, "\\boxed{8/2}") == RewardValue{1.0, "box: same number"});
  CHECK(score(reward, "<answer>5</answer>") == RewardValue{0.0, "answer tag: other number"});
  CHECK(score(reward, "4") == RewardValue{0.0, "no answer"});
  CHECK(score(reward, "") == RewardValue{0.0, "no answer"});
  CHECK(score(reward, "<answer>9^9^9</answer>").value == 0.0);
}

TEST_CASE("Accuracy: a stop string may close the answer, and is no part of a whole one") {
  const auto verifier = make_verifier(kProblem.verifier, kProblem.answer);
  const auto score_stopped = [&](ExtractionMode mode, std::string_view completion,
                                 std::size_t num_stop_bytes) {
    const RewardInput input{.problem = &kProblem,
                            .verifier = verifier.get(),
                            .completion = completion,
                            .num_tokens = 3,
                            .num_stop_bytes = num_stop_bytes};
    return AccuracyReward({.mode = mode}).score(input).value;
  };
  CHECK(score_stopped(ExtractionMode::kTagged, "<answer>4</answer>", 9) == 1.0);
  CHECK(score_stopped(ExtractionMode::kWhole, "4</answer>", 9) == 1.0);
  CHECK(score_stopped(ExtractionMode::kWhole, "4</answer>", 0) == 0.0);
}

TEST_CASE("Format: both pairs of tags once, in order, and nothing around them") {
  const FormatReward reward(false);
  CHECK(score(reward, "<think>a</think><answer>b</answer>").value == 1.0);
  CHECK(score(reward, " \n<think>\n</think>\n\n<answer></answer>\n").value == 1.0);
  for (const std::string completion :
       {"", "4", "<think>a</think>", "<answer>b</answer>", "<answer>b</answer><think>a</think>",
        "so <think>a</think><answer>b</answer>", "<think>a</think> so <answer>b</answer>",
        "<think>a</think><answer>b</answer> so", "<think>a<think></think><answer>b</answer>",
        "<think>a</think><answer>b</answer><answer>c</answer>", "</think><think><answer>b</answer>",
        "<think>a</think></answer><answer>", "<think>a<answer>b</answer></think>"}) {
    CAPTURE(completion);
    CHECK(score(reward, completion).value == 0.0);
    CHECK_FALSE(score(reward, completion).reason.empty());
  }
  const FormatReward open(true);
  CHECK(score(open, "a</think><answer>b</answer>").value == 1.0);
  CHECK(score(open, "<think>a</think><answer>b</answer>").value == 0.0);
}

TEST_CASE("Language: the share of words in the target script, of the thoughts alone") {
  const LanguageReward latin(Script::kLatin);
  const LanguageReward han(Script::kHan);
  const std::string mixed = "one two \u6c49\u5b57";  // two words, two characters
  CHECK(score(latin, mixed).value == 0.5);
  CHECK(score(han, mixed).value == 0.5);
  CHECK(score(latin, "na\u00efve caf\u00e9").value == 1.0);
  CHECK(score(latin, "one \u0434\u0432\u0430 two \u4e09").value == 0.5);
  CHECK(score(LanguageReward(Script::kCyrillic), "one \u0434\u0432\u0430").value == 0.5);
  CHECK(score(latin, "one\u6c49two").value == Approx(2.0 / 3));
  CHECK(score(han, "1 + 2 = \\frac{3}{4} \u6c49").value == 1.0);  // formulas are no words
  CHECK(score(latin, "<think>one</think>\u6c49\u5b57").value == 1.0);
  // Nothing is said: a reward for it would be one for having no thoughts.
  CHECK(score(latin, "1 + 1 = 2") == RewardValue{0.0, "0 of 0 words"});
  CHECK(score(latin, "<think></think>one").value == 0.0);
  CHECK(score(latin, "").value == 0.0);
  CHECK(score(latin, std::string_view("a\xff\xe6\xb1 b\xe6\0", 8)).value == 1.0);  // broken UTF-8
}

TEST_CASE("Length: DAPO's soft penalty") {
  const LengthReward reward(100, 20);
  CHECK(score(reward, "", 0).value == 0.0);
  CHECK(score(reward, "", 80).value == 0.0);
  CHECK(score(reward, "", 85).value == -0.25);
  CHECK(score(reward, "", 100).value == -1.0);
  CHECK(score(reward, "", 200).value == -1.0);
  CHECK_FALSE(std::signbit(*score(reward, "", 0).value));
  CHECK_THROWS_AS(LengthReward(100, 0), ConfigError);
  CHECK_THROWS_AS(LengthReward(100, 101), ConfigError);
}

TEST_CASE("Rewards are summed with their weights, each in a column of its own") {
  const WeightedRewards rewards(fakes({{"a", 1.0}, {"b", -0.25}, {"shown", 0.0}}));
  const Score known = rewards.score({.completion = "1234"});
  CHECK(known.total == 3.0);
  CHECK(known.parts.size() == 3);
  CHECK(known.parts[1].value == 4.0);
  CHECK(rewards.score({.completion = ""}).total == std::nullopt);  // dropped, not 0
  CHECK(rewards.names() == std::vector<std::string>{"a", "b", "shown"});
}

TEST_CASE("A reward that is only shown may fail") {
  std::vector<WeightedReward> list = fakes({{"shown", 0.0}});
  list.push_back({"format", 1.0, std::make_unique<FormatReward>(false)});
  const WeightedRewards rewards(std::move(list));
  CHECK(rewards.score({.completion = ""}).total == 0.0);
}

TEST_CASE("A sum that is not finite is no verdict, and the reason says so") {
  for (const std::pair<double, double>& weights :
       {std::pair{1e308, 0.0}, std::pair{4e307, 4e307}, std::pair{1e308, -1e308}}) {
    const WeightedRewards rewards(fakes({{"a", weights.first}, {"b", weights.second}, {"c", 1.0}}));
    const Score score = rewards.score({.completion = "1234"});
    CHECK(score.total == std::nullopt);
    CHECK(score.parts.size() == 3);
    CHECK(score.parts[0].value == 4.0);
    CHECK((score.parts[0].reason + score.parts[1].reason).find("not finite") != std::string::npos);
  }
}

TEST_CASE("As many completions are scored at once as the reward that waits most can take") {
  std::vector<WeightedReward> list = fakes({{"a", 1.0}});
  list.push_back({"b", 1.0, std::make_unique<FakeReward>(3)});
  list.push_back({"c", 1.0, std::make_unique<FakeReward>(2)});
  const WeightedRewards rewards(std::move(list));
  CHECK(rewards.num_at_once() == 3);
  CHECK(WeightedRewards(fakes({{"a", 1.0}})).num_at_once() == 1);
}

TEST_CASE("Rewards that teach nothing or cannot be told apart are refused") {
  CHECK_THROWS_AS(WeightedRewards({}), ConfigError);
  CHECK_THROWS_AS(WeightedRewards(fakes({{"a", 0.0}})), ConfigError);
  CHECK_THROWS_AS(WeightedRewards(fakes({{"a", 1.0}, {"a", 1.0}})), ConfigError);
  CHECK_THROWS_AS(WeightedRewards(fakes({{"", 1.0}})), ConfigError);
  CHECK_THROWS_AS(WeightedRewards(fakes({{"a", INFINITY}})), ConfigError);
}

}  // namespace fathom::rl
