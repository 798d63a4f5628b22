#include <filesystem>

#include "tests/rl/sampler_fixture.h"

namespace fathom::rl {

TEST_CASE("A rollout that was interrupted anywhere goes on to what it would have been") {
  const Fixture fixture;
  Setting setting{.drops_equal_groups = true, .max_rounds = 3, .checkpoint_interval = 3};
  const Outcome want = fixture.sample({.drops_equal_groups = true, .max_rounds = 3});
  CHECK(!std::filesystem::exists(fixture.folder() / "rollout"));
  // What a run on one rank is told of: tokens and samples.
  const std::int64_t last = want.num_drawn + kGroup * std::ssize(want.rollout.groups);
  std::int64_t resumed_nothing = 0;
  for (std::int64_t dies_after = 5; dies_after < last; dies_after += 17) {
    INFO("after " << dies_after);
    std::filesystem::remove_all(fixture.folder() / "rollout");
    setting.layout = {};
    setting.dies_after = dies_after;
    REQUIRE(fixture.sample(setting).died);
    setting.layout.mesh = dies_after % 2 == 0 ? kTensor2 : kData2;
    setting.dies_after = -1;
    const Outcome outcome = fixture.sample(setting);
    check_same(outcome.rollout, want.rollout);
    CHECK(outcome.rollout.num_resumed_tokens == want.num_drawn - outcome.num_drawn);
    // Of each sequence in flight at most the tokens since the last writing are drawn again, beside
    // the step that was under way; 12 sequences at most are.
    CHECK(outcome.num_drawn + kGroup * std::ssize(want.rollout.groups) <=
          last - dies_after + 12 * (setting.checkpoint_interval + 1) + 12);
    resumed_nothing += outcome.num_drawn == want.num_drawn ? 1 : 0;
  }
  CHECK(resumed_nothing <= 3);  // those that died before anything was written
}

TEST_CASE("Verdicts that were written down are not asked for again") {
  const Fixture fixture;
  Setting setting{.checkpoint_interval = 4};
  const Outcome want = fixture.sample(setting);
  CHECK(want.num_asked == 12);
  for (const RolloutGroup& group : want.rollout.groups) {
    REQUIRE(number_of(group) != 7);  // all have verdicts
  }
  setting.reward_change = 0.5;  // a judge who has changed his mind
  const Outcome again = fixture.sample(setting);
  CHECK(again.num_asked == 0);
  CHECK(again.num_drawn == 0);
  check_same(again.rollout, want.rollout);
  // Other weights: nothing of it is of use.
  setting.start = 6;
  const Outcome other = fixture.sample(setting);
  CHECK(other.num_asked == 12);
  CHECK(other.num_drawn == want.num_drawn);
}

TEST_CASE("A verdict that was missing is asked for again, and written down in its turn") {
  const Fixture fixture;
  const std::filesystem::path file = fixture.folder() / "sevens.jsonl";
  write_file_atomically(file, to_json_line({"a", "a: ", "7", "number"}) + '\n' +
                                  to_json_line({"b", "b: ", "7", "number"}) + '\n');
  Setting setting{.checkpoint_interval = 4, .file = file.string()};
  const Outcome failed = fixture.sample(setting);
  int num_missing = 0;
  for (const RolloutGroup& group : failed.rollout.groups) {
    for (const RolloutSample& sample : group.samples) {
      num_missing += sample.score.total ? 0 : 1;
    }
  }
  REQUIRE(num_missing > 0);
  setting.is_mended = true;
  setting.layout.mesh = kData2;
  const Outcome mended = fixture.sample(setting);
  CHECK(mended.num_asked == num_missing);
  CHECK(mended.num_drawn == 0);
  check_same(mended.rollout, fixture.sample({.is_mended = true, .file = file.string()}).rollout);
  CHECK(fixture.sample(setting).num_asked == 0);
}

TEST_CASE("A rollout that was interrupted in its second round keeps the first as it is") {
  const Fixture fixture;
  Setting setting{.drops_equal_groups = true, .max_rounds = 2, .checkpoint_interval = 2};
  const Outcome want = fixture.sample(setting);
  REQUIRE(want.rollout.num_rounds == 2);
  const std::int64_t num_second = std::ssize(want.rollout.groups) - 4;
  REQUIRE(num_second > 0);
  std::filesystem::remove_all(fixture.folder() / "rollout");
  // Some tokens into the second round; samples of the first are told of as they are scored.
  Rollout first = want.rollout;
  first.groups.resize(4);
  setting.dies_after = num_tokens(first) + 12 + 6 * num_second;
  const Outcome died = fixture.sample(setting);
  REQUIRE(died.died);
  CHECK(died.num_asked == 12);
  for (int g = 0; g < 4; ++g) {  // a file that is replaced is no more the one of the link
    std::filesystem::create_hard_link(fixture.group_file(g), fixture.link(g));
  }
  const auto begun = std::filesystem::file_size(fixture.group_file(4));
  setting.dies_after = -1;
  setting.layout.mesh = kData2;
  const Outcome outcome = fixture.sample(setting);
  check_same(outcome.rollout, want.rollout);
  CHECK(outcome.num_asked == kGroup * num_second);
  CHECK(outcome.rollout.num_resumed_tokens > num_tokens(first));
  CHECK(outcome.rollout.num_groups_left_aside == 0);
  for (int g = 0; g < 4; ++g) {
    INFO("group " << g << " was written again");
    CHECK(std::filesystem::equivalent(fixture.group_file(g), fixture.link(g)));
  }
  CHECK(std::filesystem::file_size(fixture.group_file(4)) > begun);
}

TEST_CASE("A group that is finished is not written again while others grow") {
  const Fixture fixture;
  const std::int64_t num_drawn = num_tokens(fixture.sample({}).rollout);
  Setting setting{.checkpoint_interval = 1, .max_sequences = 1, .dies_after = num_drawn - 1};
  bool is_removed = false;
  setting.watches = [&] {  // one group is sampled after the other
    if (!is_removed && std::filesystem::exists(fixture.group_file(1))) {
      is_removed = std::filesystem::remove(fixture.group_file(0));
    }
  };
  REQUIRE(fixture.sample(setting).died);
  CHECK(is_removed);
  CHECK(!std::filesystem::exists(fixture.group_file(0)));
  CHECK(std::filesystem::exists(fixture.group_file(3)));
  setting = {.checkpoint_interval = 1};
  CHECK(fixture.sample(setting).num_drawn > 0);
  CHECK(std::filesystem::exists(fixture.group_file(0)));  // scored
}

TEST_CASE("A damaged group among good ones is sampled anew by itself") {
  const Fixture fixture;
  const Setting setting{.checkpoint_interval = 4};
  const Outcome want = fixture.sample(setting);
  std::string bytes = read_file(fixture.group_file(2));
  bytes[bytes.size() / 2] ^= 1;
  write_file_atomically(fixture.group_file(2), bytes);
  for (int g = 0; g < 4; ++g) {
    std::filesystem::create_hard_link(fixture.group_file(g), fixture.link(g));
  }
  const Outcome again = fixture.sample(setting);
  check_same(again.rollout, want.rollout);
  CHECK(again.num_asked == kGroup);
  CHECK(again.rollout.num_groups_left_aside == 1);
  std::int64_t num_of_group = 0;
  for (const RolloutSample& sample : want.rollout.groups[2].samples) {
    num_of_group += std::ssize(sample.completion.tokens);
  }
  CHECK(again.num_drawn == num_of_group);
  CHECK(again.rollout.num_resumed_samples == 9);
  for (int g = 0; g < 4; ++g) {
    INFO("group " << g);
    CHECK(std::filesystem::equivalent(fixture.group_file(g), fixture.link(g)) == (g != 2));
  }
  const Outcome whole = fixture.sample(setting);
  CHECK(whole.num_asked == 0);
  CHECK(whole.rollout.num_groups_left_aside == 0);
}

}  // namespace fathom::rl
