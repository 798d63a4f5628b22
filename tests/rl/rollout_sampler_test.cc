#include "rl/rollout_sampler.h"

#include <cmath>
#include <set>

#include "tests/rl/sampler_fixture.h"

namespace fathom::rl {

namespace {

// Of the tokens that are bytes; what ends a completion is none.
std::int64_t sum_of_bytes(const trainer::Completion& completion) {
  std::int64_t sum = 0;
  for (const std::int32_t token : completion.tokens) {
    sum += token < test::kBegin ? token : 0;
  }
  return sum;
}

// (r - mean) / std over the samples of a group that have a reward.
std::vector<double> advantages_of(const RolloutGroup& group) {
  double count = 0;
  double sum = 0;
  double squares = 0;
  for (const RolloutSample& sample : group.samples) {
    count += sample.score.total ? 1 : 0;
    sum += sample.score.total.value_or(0.0);
    squares += std::pow(sample.score.total.value_or(0.0), 2);
  }
  const double std = std::sqrt(squares / count - std::pow(sum / count, 2));
  std::vector<double> advantages;
  for (const RolloutSample& sample : group.samples) {
    advantages.push_back(sample.score.total ? (*sample.score.total - sum / count) / std : 0.0);
  }
  return advantages;
}

}  // namespace

TEST_CASE("A rollout has the problems of the stream in order, scored and normalised by group") {
  const Fixture fixture;
  const Outcome outcome = fixture.sample({});
  const Rollout& rollout = outcome.rollout;
  CHECK(rollout.num_rounds == 1);
  REQUIRE(rollout.groups.size() == 4);
  CHECK(outcome.num_drawn == num_tokens(rollout));
  CHECK(outcome.num_asked == 12);
  const ProblemStream problems({{.file = fixture.folder() / "problems.jsonl"}}, 1);
  std::set<std::vector<std::int32_t>> different;
  for (std::int64_t g = 0; g < 4; ++g) {
    const RolloutGroup& group = rollout.groups[static_cast<std::size_t>(g)];
    CHECK(group.problem == problems.at(11 + g));
    CHECK(group.source == 0);
    const bool is_odd = number_of(group) % 2 == 1;
    CHECK(group.has_spread == is_odd);
    CHECK(group.is_kept);  // nothing is dropped here
    const std::vector<double> advantages = advantages_of(group);
    for (std::size_t i = 0; i < group.samples.size(); ++i) {
      const RolloutSample& sample = group.samples[i];
      different.insert(sample.completion.tokens);
      CHECK(sample.completion.tokens.size() == sample.completion.logprobs.size());
      const std::int64_t sum = sum_of_bytes(sample.completion);
      CHECK(sample.score.parts.front().reason.ends_with('|'));  // no stop string
      if (sample.score.total) {
        CHECK(*sample.score.total == (is_odd ? static_cast<double>(sum) : 1.0));
      } else {
        CHECK((number_of(group) == 7 && sum % 2 == 0));
      }
      CHECK(sample.advantage == Approx(is_odd ? advantages[i] : 0.0).margin(1e-9));
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
    CHECK(outcome.num_asked == kGroup * std::ssize(want.groups));  // each sample once
  }
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
  std::int64_t num_failed = 0;
  for (const RolloutGroup& group : rollout.groups) {
    CHECK(group.is_kept);
    const std::vector<double> advantages = advantages_of(group);
    for (std::size_t i = 0; i < group.samples.size(); ++i) {
      const RolloutSample& sample = group.samples[i];
      CHECK(sample.score.total == sample.score.parts[0].value);
      num_failed += sample.score.total ? 0 : 1;
      if (group.has_spread || !sample.score.total) {
        CHECK(sample.advantage == Approx(advantages[i]).margin(1e-9));
      }
    }
  }
  CHECK(num_failed > 0);
  CHECK(num_failed < kGroup * std::ssize(rollout.groups));
}

TEST_CASE("A group is kept where the reward that decides differs, and the whole reward") {
  const Fixture fixture;
  const Setting setting{.drops_equal_groups = true, .max_rounds = 6, .deciding_reward = 1};
  const Rollout rollout = fixture.sample(setting).rollout;
  int num_spread_alone = 0;
  int num_kept = 0;
  for (const RolloutGroup& group : rollout.groups) {
    std::set<double> thirds;
    for (const RolloutSample& sample : group.samples) {
      if (sample.score.total) {
        thirds.insert(sample.score.parts[1].value.value());
      }
    }
    CHECK(group.is_kept == (group.has_spread && thirds.size() > 1));
    num_kept += group.is_kept ? 1 : 0;
    num_spread_alone += group.has_spread && !group.is_kept ? 1 : 0;
  }
  CHECK(num_kept > 0);
  CHECK(num_spread_alone > 0);
}

TEST_CASE("Rewards see the string that ended a completion, and which part of it that is") {
  const Fixture fixture;
  const Rollout free = fixture.sample({}).rollout;
  const auto text_of = [&](std::size_t g, std::size_t i) {  // what was shown, without the bar
    const std::string& reason = free.groups[g].samples[i].score.parts[0].reason;
    return reason.substr(0, reason.size() - 1);
  };
  const std::string stop = text_of(0, 0).substr(3, 1);
  const Rollout stopped = fixture.sample({.stop = {stop}}).rollout;
  bool is_any_stopped = false;
  for (std::size_t g = 0; g < free.groups.size(); ++g) {
    for (std::size_t i = 0; i < free.groups[g].samples.size(); ++i) {
      const std::string whole = text_of(g, i);
      const std::size_t end = whole.find(stop);
      const bool is_stopped = end != std::string::npos;
      is_any_stopped = is_any_stopped || is_stopped;
      CHECK(stopped.groups[g].samples[i].score.parts[0].reason ==
            concat(whole.substr(0, end), is_stopped ? stop : "", '|', is_stopped ? stop : ""));
    }
  }
  CHECK(is_any_stopped);
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
