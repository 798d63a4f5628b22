#include "rl/rollout_sampler.h"

#include <set>

#include "tests/rl/sampler_fixture.h"

namespace fathom::rl {

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

TEST_CASE("Rewards see the string that ended a completion, which the sample keeps apart") {
  const Fixture fixture;
  const Rollout free = fixture.sample({}).rollout;
  const std::string text = free.groups[0].samples[0].text.shown;
  const std::string stop = text.substr(3, 1);
  const Rollout stopped = fixture.sample({.stop = {stop}}).rollout;
  bool is_any_stopped = false;
  for (std::size_t g = 0; g < free.groups.size(); ++g) {
    for (std::size_t i = 0; i < free.groups[g].samples.size(); ++i) {
      const std::string whole = free.groups[g].samples[i].text.shown;
      const RolloutSample& sample = stopped.groups[g].samples[i];
      const std::size_t end = whole.find(stop);
      const bool is_stopped = end != std::string::npos;
      is_any_stopped = is_any_stopped || is_stopped;
      CHECK(sample.text.shown == whole.substr(0, end));
      CHECK(sample.text.stop == (is_stopped ? stop : ""));
      CHECK(sample.score.parts[0].reason ==
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
