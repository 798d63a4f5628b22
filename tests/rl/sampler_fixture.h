#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
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

// What a completion is worth where the problem's number is odd.
inline std::int64_t sum_of_bytes(std::string_view text) {
  std::int64_t sum = 0;
  for (const char byte : text) {
    sum += static_cast<unsigned char>(byte);
  }
  return sum;
}

// The sum of a completion's bytes where the problem's number is odd, else 1; nothing for an even
// sum of problem 7, unless that is mended. Counts how often it is asked, in all and by this thread;
// its reason is the text that it was shown, and the stop string at its end.
class NumberReward final : public Reward {
 public:
  static thread_local std::int64_t num_asked_here;

  NumberReward(std::atomic<int>& num_asked, double change, bool is_mended)
      : num_asked_(&num_asked), change_(change), is_mended_(is_mended) {}
  RewardValue score(const RewardInput& input) const override {
    ++*num_asked_;
    ++num_asked_here;
    const int number = std::stoi(input.problem->answer);
    const std::int64_t sum = sum_of_bytes(input.completion);
    const bool fails = number == 7 && sum % 2 == 0 && !is_mended_;
    const double value = number % 2 == 0 ? 1.0 : static_cast<double>(sum);
    const std::string_view stop =
        input.completion.substr(input.completion.size() - input.num_stop_bytes);
    return {fails ? std::nullopt : std::optional(value + change_),
            concat(input.completion, '|', stop)};
  }

 private:
  std::atomic<int>* num_asked_;
  double change_;
  bool is_mended_;
};

inline thread_local std::int64_t NumberReward::num_asked_here = 0;

// What one may look at instead: 1 for an even sum of the completion's bytes where the problem's
// number is a multiple of 3, else 0.
class ThirdReward final : public Reward {
 public:
  RewardValue score(const RewardInput& input) const override {
    const bool counts = std::stoi(input.problem->answer) % 3 == 0;
    return {counts && sum_of_bytes(input.completion) % 2 == 0 ? 1.0 : 0.0, ""};
  }
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
  std::optional<std::size_t> deciding_reward = {};  // 0: "number", 1: "third"
  std::int64_t max_sequences = 32;
  std::int64_t dies_after = -1;  // tokens and samples that a rank is told of; -1: never
  double reward_change = 0;      // added to every verdict
  bool is_mended = false;        // the reward fails no more
  std::uint64_t start = 5;
  std::string file = {};  // of problems; empty: numbers
  std::vector<std::string> stop = {};
  std::function<void()> watches = {};  // called whenever something is told
};

struct Outcome {
  Rollout rollout;
  std::int64_t num_drawn = 0;  // tokens, as rank 0 was told
  int num_asked = 0;           // samples that the reward was asked about, by any rank
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
        {"number", 1.0,
         std::make_unique<NumberReward>(num_asked, setting.reward_change, setting.is_mended)});
    weighted.push_back({"third", 0.0, std::make_unique<ThirdReward>()});
    const WeightedRewards rewards(std::move(weighted));
    const EncodeProblem encode = [&](const Problem& problem) {
      return tokenizer.encode(problem.prompt);
    };
    RolloutOptions options;
    options.prompts_per_step = 4;
    options.group_size = kGroup;
    options.drops_equal_groups = setting.drops_equal_groups;
    options.max_rounds = setting.max_rounds;
    options.deciding_reward = setting.deciding_reward;
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
        NumberReward::num_asked_here = 0;
        const Rollout rollout = sampler.sample(
            policy.generator(), 6, 11, [&] { return setting.start; },
            [&] {
              if (setting.watches) {
                setting.watches();
              }
              if (num_told++ == setting.dies_after) {
                throw Interrupted("interrupted");
              }
            });
        if (world.rank() == 0) {
          outcome.rollout = rollout;
          outcome.num_drawn = num_told - NumberReward::num_asked_here;
        } else {
          FATHOM_CHECK(rollout.groups.size() > 0);
        }
      });
    } catch (const Interrupted&) {
      outcome.died = true;
    } catch (const InternalError& error) {  // as all ranks learn of it while they score
      outcome.died = error.message().find("interrupted") != std::string::npos;
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
