#pragma once

#include <atomic>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "rl/rollout_sampler.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/rl/tiny_policy.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {

inline constexpr std::int64_t kGroup = 3;

// The number of a sample in its group where the problem's number is odd, else 1 for all; nothing
// for the second sample of problem 7. Counts how often it is asked; its reason is the text that it
// was shown, and the stop string at its end.
class NumberReward final : public Reward {
 public:
  explicit NumberReward(std::atomic<int>& num_asked, double change = 0.0)
      : num_asked_(&num_asked), change_(change) {}
  std::vector<RewardValue> score(std::span<const RewardInput> inputs) const override {
    ++*num_asked_;
    const int number = std::stoi(inputs[0].problem->answer);
    std::vector<RewardValue> values;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::string_view text = inputs[i].completion;
      const std::string stop(text.substr(text.size() - inputs[i].num_stop_bytes));
      const double value = number % 2 == 0 ? 1.0 : static_cast<double>(i);
      const bool fails = number == 7 && i == 1;
      values.push_back(
          {fails ? std::nullopt : std::optional(value + change_), concat(text, '|', stop)});
    }
    return values;
  }

 private:
  std::atomic<int>* num_asked_;
  double change_;
};

// What a rank throws to interrupt a rollout.
struct Interrupted : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Setting {
  testing::Layout layout = {};
  bool drops_equal_groups = false;
  std::int64_t max_rounds = 1;
  std::int64_t checkpoint_interval = 0;
  std::int64_t max_sequences = 32;
  std::int64_t dies_after = -1;  // tokens and groups that are told; -1: never
  double reward_change = 0;      // added to every verdict
  std::uint64_t start = 5;
  std::string file = {};  // of problems; empty: numbers
  std::vector<std::string> stop = {};
  std::function<void()> watches = {};  // called whenever something is told
};

struct Outcome {
  Rollout rollout;
  std::int64_t num_told = 0;  // tokens drawn and groups scored
  int num_asked = 0;          // groups that the reward was asked about
  bool died = false;
};

class Fixture {
 public:
  Fixture() {
    std::string lines;
    for (int i = 0; i < 40; ++i) {
      const std::string number = std::to_string(i);
      lines += to_json_line({number, "Say " + number + ": ", number, "number"}) + '\n';
    }
    write_file_atomically(file_, lines);
  }

  const std::filesystem::path& folder() const { return folder_.path(); }
  std::filesystem::path group_file(int number) const {
    return folder() / "rollout" / "step-00000006" / concat("group-0000000", number, ".pb");
  }
  std::filesystem::path link(int number) const { return folder() / concat("link-", number); }

  Outcome sample(const Setting& setting) const {
    const data::Tokenizer tokenizer = test::byte_tokenizer();
    // In the order of the file: a family would be, but has no numbers.
    const ProblemStream problems({{.file = setting.file.empty() ? file_.string() : setting.file}},
                                 1);
    std::atomic<int> num_asked{0};
    std::vector<WeightedReward> weighted;
    weighted.push_back(
        {"number", 1.0, std::make_unique<NumberReward>(num_asked, setting.reward_change)});
    const WeightedRewards rewards(std::move(weighted));
    const EncodeProblem encode = [&](const Problem& problem) {
      return tokenizer.encode(problem.prompt);
    };
    RolloutOptions options;
    options.prompts_per_step = 4;
    options.group_size = kGroup;
    options.drops_equal_groups = setting.drops_equal_groups;
    options.max_rounds = setting.max_rounds;
    options.max_tokens = kPolicyLength;
    options.generation.max_new_tokens = 8;
    options.generation.max_sequences = setting.max_sequences;
    options.end = trainer::make_completion_end(tokenizer, setting.stop);
    trainer::set_vocabulary(tokenizer, options.end, options.generation);
    options.checkpoint_interval = setting.checkpoint_interval;
    options.choices = "choices";
    Outcome outcome;
    const testing::Layout& layout = setting.layout;
    try {
      test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
        TinyPolicy policy(policy_options(), layout, world, stream);
        policy.initialize(3);
        RolloutSampler sampler({problems, encode, rewards, tokenizer}, options,
                               RolloutJournal(folder_.path() / "rollout", world), world);
        std::int64_t num_told = 0;
        const Rollout rollout = sampler.sample(
            policy.generator(), 6, 11, [&] { return setting.start; },
            [&] {
              if (setting.watches) {
                setting.watches();
              }
              if (num_told++ == setting.dies_after) {
                throw Interrupted("");
              }
            });
        if (world.rank() == 0) {
          outcome.rollout = rollout;
          outcome.num_told = num_told;
        } else {
          FATHOM_CHECK(rollout.groups.size() > 0);
        }
      });
    } catch (const Interrupted&) {
      outcome.died = true;
    }
    outcome.num_asked = num_asked;
    return outcome;
  }

 private:
  test::TemporaryFolder folder_;
  std::filesystem::path file_ = folder_.path() / "problems.jsonl";
};

inline void check_same(const Rollout& found, const Rollout& want) {
  CHECK(found.num_rounds == want.num_rounds);
  REQUIRE(found.groups.size() == want.groups.size());
  for (std::size_t g = 0; g < want.groups.size(); ++g) {
    INFO("group " << g);
    const RolloutGroup& a = found.groups[g];
    const RolloutGroup& b = want.groups[g];
    CHECK(a.problem == b.problem);
    CHECK(a.prompt == b.prompt);
    CHECK(a.has_spread == b.has_spread);
    CHECK(a.is_kept == b.is_kept);
    REQUIRE(a.samples.size() == b.samples.size());
    for (std::size_t i = 0; i < b.samples.size(); ++i) {
      CHECK(a.samples[i].completion.tokens == b.samples[i].completion.tokens);
      CHECK(a.samples[i].completion.logprobs == b.samples[i].completion.logprobs);
      CHECK(a.samples[i].completion.finish == b.samples[i].completion.finish);
      CHECK(a.samples[i].text == b.samples[i].text);
      CHECK(a.samples[i].score.total == b.samples[i].score.total);
      CHECK(a.samples[i].score.parts == b.samples[i].score.parts);
      CHECK(a.samples[i].advantage == b.samples[i].advantage);
    }
  }
}

inline std::int64_t num_tokens(const Rollout& rollout) {
  std::int64_t count = 0;
  for (const RolloutGroup& group : rollout.groups) {
    for (const RolloutSample& sample : group.samples) {
      count += std::ssize(sample.completion.tokens);
    }
  }
  return count;
}

inline int number_of(const RolloutGroup& group) { return std::stoi(group.problem.answer); }

inline const parallel::MeshShape kData2{1, 2, 1, 1};
inline const parallel::MeshShape kTensor2{1, 1, 2, 1};

}  // namespace fathom::rl
