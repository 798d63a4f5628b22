#include "rl/rollout_sampler.h"

#include <atomic>
#include <set>
#include <stdexcept>

#include "core/error.h"
#include "core/file.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/rl/tiny_policy.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

constexpr std::int64_t kGroup = 3;

// The number of a sample in its group where the problem's number is odd, else 1 for all; nothing
// for the second sample of problem 7. Counts how often it is asked.
class NumberReward final : public Reward {
 public:
  explicit NumberReward(std::atomic<int>& num_asked, double change = 0.0)
      : num_asked_(&num_asked), change_(change) {}
  std::vector<RewardValue> score(std::span<const RewardInput> inputs) const override {
    ++*num_asked_;
    const int number = std::stoi(inputs[0].problem->answer);
    std::vector<RewardValue> values;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const double value = number % 2 == 0 ? 1.0 : static_cast<double>(i);
      const bool fails = number == 7 && i == 1;
      values.push_back({fails ? std::nullopt : std::optional(value + change_), "as it is"});
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
    trainer::set_vocabulary(tokenizer, options.generation);
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

void check_same(const Rollout& found, const Rollout& want) {
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

std::int64_t num_tokens(const Rollout& rollout) {
  std::int64_t count = 0;
  for (const RolloutGroup& group : rollout.groups) {
    for (const RolloutSample& sample : group.samples) {
      count += std::ssize(sample.completion.tokens);
    }
  }
  return count;
}

int number_of(const RolloutGroup& group) { return std::stoi(group.problem.answer); }

const parallel::MeshShape kData2{1, 2, 1, 1};
const parallel::MeshShape kTensor2{1, 1, 2, 1};

}  // namespace

TEST_CASE("A rollout has the problems of the stream in order, scored and normalised by group") {
  const Fixture fixture;
  const Outcome outcome = fixture.sample({});
  const Rollout& rollout = outcome.rollout;
  CHECK(rollout.num_rounds == 1);
  REQUIRE(rollout.groups.size() == 4);
  CHECK(outcome.num_told == num_tokens(rollout) + 4);
  const ProblemStream problems({{.file = fixture.folder() / "problems.jsonl"}}, 1);
  std::set<std::vector<std::int32_t>> different;
  for (std::int64_t g = 0; g < 4; ++g) {
    const RolloutGroup& group = rollout.groups[static_cast<std::size_t>(g)];
    CHECK(group.problem == problems.at(11 + g));
    CHECK(group.has_spread == (number_of(group) % 2 == 1));
    CHECK(group.is_kept);  // nothing is dropped here
    for (const RolloutSample& sample : group.samples) {
      different.insert(sample.completion.tokens);
      CHECK(sample.completion.tokens.size() == sample.completion.logprobs.size());
    }
    if (group.has_spread && number_of(group) != 7) {  // rewards 0, 1, 2
      CHECK(group.samples[0].advantage == Approx(-std::sqrt(1.5)));
      CHECK(group.samples[1].advantage == 0.0);
      CHECK(group.samples[2].advantage == Approx(std::sqrt(1.5)));
    }
  }
  CHECK(different.size() == 12);
}

TEST_CASE("Dynamic sampling refills in the order of the problems and gives up at its bound") {
  const Fixture fixture;
  const Rollout all = fixture.sample({.drops_equal_groups = true, .max_rounds = 20}).rollout;
  const ProblemStream problems({{.file = fixture.folder() / "problems.jsonl"}}, 1);
  // Round by round as many as are missing; what a plain loop over the stream would draw.
  std::vector<std::size_t> rounds;
  std::int64_t next = 11;
  std::size_t num_kept = 0;
  std::vector<bool> kept;
  while (num_kept < 4) {
    rounds.push_back(4 - num_kept);
    for (std::size_t i = rounds.back(); i > 0; --i) {
      kept.push_back(std::stoi(problems.at(next++).answer) % 2 == 1);
      num_kept += kept.back() ? 1 : 0;
    }
  }
  REQUIRE(rounds.size() > 2);
  CHECK(all.num_rounds == std::ssize(rounds));
  REQUIRE(all.groups.size() == kept.size());
  for (std::size_t g = 0; g < kept.size(); ++g) {
    CHECK(all.groups[g].problem == problems.at(11 + static_cast<std::int64_t>(g)));
    CHECK(all.groups[g].is_kept == kept[g]);
  }
  // With a lower bound: the same groups, as far as they go.
  Rollout fewer = fixture.sample({.drops_equal_groups = true, .max_rounds = 2}).rollout;
  CHECK(fewer.num_rounds == 2);
  CHECK(fewer.groups.size() == rounds[0] + rounds[1]);
  Rollout head = all;
  head.num_rounds = 2;
  head.groups.resize(rounds[0] + rounds[1]);
  check_same(fewer, head);
}

TEST_CASE("A rollout is the same on every layout, whatever is sampled side by side") {
  const Fixture fixture;
  Setting setting{.drops_equal_groups = true, .max_rounds = 3};
  const Rollout want = fixture.sample(setting).rollout;
  setting.max_sequences = 2;
  check_same(fixture.sample(setting).rollout, want);
  for (const parallel::MeshShape& mesh :
       {kData2, kTensor2, parallel::MeshShape{2, 1, 1, 1}, parallel::MeshShape{1, 2, 1, 2}}) {
    setting.layout.mesh = mesh;
    INFO(testing::to_string(setting.layout));
    const Outcome outcome = fixture.sample(setting);
    check_same(outcome.rollout, want);
    CHECK(outcome.num_asked == std::ssize(want.groups));  // by one rank
  }
}

TEST_CASE("A rollout that was interrupted anywhere goes on to what it would have been") {
  const Fixture fixture;
  Setting setting{.drops_equal_groups = true, .max_rounds = 3, .checkpoint_interval = 3};
  const Outcome want = fixture.sample({.drops_equal_groups = true, .max_rounds = 3});
  CHECK(!std::filesystem::exists(fixture.folder() / "rollout"));
  const std::int64_t last = want.num_told;
  std::int64_t resumed_nothing = 0;
  for (std::int64_t dies_after = 5; dies_after < last; dies_after += 13) {
    INFO("after " << dies_after);
    std::filesystem::remove_all(fixture.folder() / "rollout");
    setting.layout = {};
    setting.dies_after = dies_after;
    REQUIRE(fixture.sample(setting).died);
    setting.layout.mesh = dies_after % 2 == 0 ? kTensor2 : kData2;
    setting.dies_after = -1;
    const Outcome outcome = fixture.sample(setting);
    check_same(outcome.rollout, want.rollout);
    const std::int64_t num_drawn = outcome.num_told - std::ssize(want.rollout.groups);
    CHECK(outcome.rollout.num_resumed_tokens == num_tokens(want.rollout) - num_drawn);
    // Of each sequence in flight at most the tokens since the last writing are drawn again, beside
    // the step that was under way; 12 sequences at most are.
    CHECK(outcome.num_told <= last - dies_after + 12 * (setting.checkpoint_interval + 1) + 4);
    resumed_nothing += outcome.num_told == last ? 1 : 0;
  }
  CHECK(resumed_nothing <= 3);  // those that died before anything was written
}

TEST_CASE("Verdicts that were written down are not asked for again") {
  const Fixture fixture;
  Setting setting{.checkpoint_interval = 4};
  const Outcome want = fixture.sample(setting);
  CHECK(want.num_asked == 4);
  setting.reward_change = 0.5;  // a judge who has changed his mind
  const Outcome again = fixture.sample(setting);
  CHECK(again.num_asked == 0);
  CHECK(again.num_told == 4);  // groups; no token
  check_same(again.rollout, want.rollout);
  // Other weights: nothing of it is of use.
  setting.start = 6;
  const Outcome other = fixture.sample(setting);
  CHECK(other.num_asked == 4);
  CHECK(other.num_told == want.num_told);
}

TEST_CASE("A sample without a verdict is no part of its group") {
  const Fixture fixture;
  const std::filesystem::path file = fixture.folder() / "sevens.jsonl";
  std::string lines;
  for (const std::string id : {"a", "b"}) {
    lines += to_json_line({id, id + ": ", "7", "number"}) + '\n';
  }
  write_file_atomically(file, lines);
  const Rollout rollout = fixture.sample({.file = file.string()}).rollout;
  for (const RolloutGroup& group : rollout.groups) {
    CHECK(group.samples[0].advantage == -1.0);  // of rewards 0 and 2
    CHECK(group.samples[1].score.total == std::nullopt);
    CHECK(group.samples[1].advantage == 0.0);
    CHECK(group.samples[2].advantage == 1.0);
    CHECK(group.is_kept);
  }
}

TEST_CASE("A prompt that leaves no room for a completion is refused with its problem's name") {
  const Fixture fixture;
  const std::filesystem::path file = fixture.folder() / "long.jsonl";
  write_file_atomically(file, to_json_line({"fits", std::string(24, 'x'), "1", "number"}) + '\n' +
                                  to_json_line({"too long", std::string(25, 'x'), "1", "number"}) +
                                  '\n');
  CHECK_THROWS_WITH(fixture.sample({.file = file.string()}),
                    Catch::Contains("problem too long: a prompt of 25 tokens"));
}

}  // namespace fathom::rl
