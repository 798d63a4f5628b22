#include "rl/rollout_journal.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>

#include "configs/schema/rollout_state.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "data/checksum.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

const RolloutIdentity kIdentity{.start = 0xFEDCBA9876543210U, .choices = "a\nb", .group_size = 2};

using Groups = std::map<std::int64_t, GroupProgress>;

// A group that is scored, with a sample that could not be, and two in flight.
Groups make_groups() {
  Groups groups;
  groups[0].completions.resize(2);
  groups[0].completions[0].tokens = {3, 1, 4};
  groups[0].completions[0].logprobs = {-0.1F, -std::numeric_limits<float>::denorm_min(), -0.0F};
  groups[0].scores = {{.total = 0.1, .parts = {{0.1, "so"}, {std::nullopt, "lost\xFF"}}},
                      {.total = std::nullopt, .parts = {{std::nullopt, ""}}}};
  groups[1].completions.resize(2);
  groups[1].completions[0].tokens = {9};
  groups[1].completions[0].logprobs = {-2.5F};
  groups[12].completions.resize(2);
  return groups;
}

void write(const RolloutJournal& journal, std::int64_t step, const Groups& groups,
           const RolloutIdentity& identity = kIdentity) {
  std::vector<std::int64_t> numbers;
  for (const auto& [number, group] : groups) {
    numbers.push_back(number);
  }
  journal.write(step, identity, numbers, [&](std::int64_t number) { return groups.at(number); });
}

void check_equal(const Groups& found, const Groups& want) {
  REQUIRE(found.size() == want.size());
  for (const auto& [number, group] : want) {
    CAPTURE(number);
    const GroupProgress& other = found.at(number);
    REQUIRE(other.completions.size() == group.completions.size());
    for (std::size_t i = 0; i < group.completions.size(); ++i) {
      const trainer::Completion& a = other.completions[i];
      const trainer::Completion& b = group.completions[i];
      CHECK(a.tokens == b.tokens);
      CHECK(std::ranges::equal(a.logprobs, b.logprobs, {}, std::bit_cast<std::uint32_t, float>,
                               std::bit_cast<std::uint32_t, float>));
    }
    REQUIRE(other.scores.size() == group.scores.size());
    for (std::size_t i = 0; i < group.scores.size(); ++i) {
      CHECK(other.scores[i].total == group.scores[i].total);
      CHECK(other.scores[i].parts == group.scores[i].parts);
    }
  }
}

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

// A journal on a world of one.
struct Alone {
  test::TemporaryFolder temporary;
  std::vector<std::unique_ptr<parallel::Communicator>> world = parallel::make_thread_world(1);
  std::filesystem::path folder = temporary.path() / "rollout";
  RolloutJournal journal{folder, *world.front()};

  std::filesystem::path file(int number) const {
    return folder / "step-00000003" / concat("group-0000000", number, ".pb");
  }
  // What load() gives: numbers of groups, and how many were left aside.
  std::pair<std::set<std::int64_t>, std::int64_t> loaded(std::int64_t step,
                                                         const RolloutIdentity& identity) const {
    const RolloutProgress progress = journal.load(step, identity);
    std::set<std::int64_t> numbers;
    for (const auto& [number, group] : progress.groups) {
      numbers.insert(number);
    }
    return {numbers, progress.num_left_aside};
  }
};

using Numbers = std::pair<std::set<std::int64_t>, std::int64_t>;
const Numbers kNothing{{}, 0};

}  // namespace

TEST_CASE("A rollout in flight comes back bit for bit, on any number of ranks") {
  const test::TemporaryFolder folder;
  for (const auto& [writers, readers] : {std::pair{1, 3}, std::pair{3, 1}}) {
    std::filesystem::remove_all(folder.path() / "rollout");
    test::run_ranks(writers, [&](parallel::Communicator& world, Stream&) {
      write(RolloutJournal(folder.path() / "rollout", world), 3, make_groups());
    });
    std::vector<RolloutProgress> read(static_cast<std::size_t>(readers));
    test::run_ranks(readers, [&](parallel::Communicator& world, Stream&) {
      read[static_cast<std::size_t>(world.rank())] =
          RolloutJournal(folder.path() / "rollout", world).load(3, kIdentity);
    });
    for (const RolloutProgress& progress : read) {
      check_equal(progress.groups, make_groups());
      CHECK(progress.num_left_aside == 0);
    }
  }
}

TEST_CASE("A group is written by the rank of its number alone, and others stay as they are") {
  const test::TemporaryFolder folder;
  std::vector<std::vector<std::int64_t>> asked(3);
  Groups groups = make_groups();
  test::run_ranks(3, [&](parallel::Communicator& world, Stream&) {
    const RolloutJournal journal(folder.path() / "rollout", world);
    for (const std::vector<std::int64_t>& numbers :
         {std::vector<std::int64_t>{0, 1, 12}, std::vector<std::int64_t>{1}}) {
      journal.write(3, kIdentity, numbers, [&](std::int64_t number) {
        asked[static_cast<std::size_t>(world.rank())].push_back(number);
        return groups.at(number);
      });
    }
  });
  CHECK(asked == std::vector<std::vector<std::int64_t>>{{0, 12}, {1, 1}, {}});
  CHECK(names_in(folder.path() / "rollout" / "step-00000003") ==
        std::set<std::string>{"group-00000000.pb", "group-00000001.pb", "group-00000012.pb"});
}

TEST_CASE("A rollout of another step, other weights or other choices is left aside") {
  const Alone alone;
  CHECK(alone.loaded(3, kIdentity) == kNothing);
  write(alone.journal, 3, make_groups());
  const Numbers all{{0, 1, 12}, 0};
  const Numbers none{{}, 3};
  CHECK(alone.loaded(3, kIdentity) == all);
  CHECK(alone.loaded(2, kIdentity) == kNothing);
  RolloutIdentity other = kIdentity;
  ++other.start;
  CHECK(alone.loaded(3, other) == none);
  other = kIdentity;
  other.choices += "c";
  CHECK(alone.loaded(3, other) == none);
  // Each by itself: group 1 is one of others now.
  write(alone.journal, 3, {{1, make_groups().at(1)}}, other);
  CHECK(alone.loaded(3, kIdentity) == Numbers{{0, 12}, 1});
  CHECK(alone.loaded(3, other) == Numbers{{1}, 2});
}

TEST_CASE("A group with any byte wrong or missing is left aside by itself") {
  const Alone alone;
  write(alone.journal, 3, make_groups());
  const std::string whole = read_file(alone.file(0));
  const Numbers others{{1, 12}, 1};
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    std::ofstream(alone.file(0), std::ios::binary) << damaged;
    CAPTURE(i);
    CHECK(alone.loaded(3, kIdentity) == others);
    std::ofstream(alone.file(0), std::ios::binary) << whole.substr(0, i);
    CHECK(alone.loaded(3, kIdentity) == others);
  }
  write_file_atomically(alone.file(0), whole);
  check_equal(alone.journal.load(3, kIdentity).groups, make_groups());
}

TEST_CASE("A group that is sealed but makes no sense is left aside by itself") {
  const Alone alone;
  // As another program might write them: what the journal itself would refuse.
  const auto seal = [&](const GroupState& state) {
    SealedGroup sealed;
    sealed.set_state(state.SerializeAsString());
    sealed.set_xxh3_64(data::checksum(sealed.state()));
    write_file_atomically(alone.file(0), sealed.SerializeAsString());
  };
  write(alone.journal, 3, make_groups());
  SealedGroup sealed;
  GroupState good;
  REQUIRE(sealed.ParseFromString(read_file(alone.file(0))));
  REQUIRE(good.ParseFromString(sealed.state()));
  seal(good);
  CHECK(alone.loaded(3, kIdentity) == Numbers{{0, 1, 12}, 0});
  const std::vector<std::pair<const char*, std::function<void(GroupState&)>>> changes = {
      {"scored in part", [](GroupState& state) { state.mutable_samples(1)->clear_score(); }},
      {"a token without log-probability",
       [](GroupState& state) { state.mutable_samples(1)->add_tokens(5); }},
      {"too few samples", [](GroupState& state) { state.mutable_samples()->RemoveLast(); }},
      {"too many samples", [](GroupState& state) { *state.add_samples() = state.samples(0); }},
      {"another number", [](GroupState& state) { state.set_group(1); }},
      {"no number", [](GroupState& state) { state.clear_group(); }},
  };
  for (const auto& [what, change] : changes) {
    INFO(what);
    GroupState state = good;
    change(state);
    seal(state);
    CHECK(alone.loaded(3, kIdentity) == Numbers{{1, 12}, 1});
  }
}

TEST_CASE("Ranks that do not read the same start anew together") {
  const test::TemporaryFolder folder;
  const Alone alone;
  std::vector<RolloutProgress> read(2);
  Groups groups = make_groups();
  for (int rank = 0; rank < 2; ++rank) {
    const auto world = parallel::make_thread_world(1);
    groups[1].completions[0].logprobs[0] = static_cast<float>(-1 - rank);
    write(RolloutJournal(folder.path() / std::to_string(rank), *world.front()), 3, groups);
  }
  test::run_ranks(2, [&](parallel::Communicator& world, Stream&) {
    read[static_cast<std::size_t>(world.rank())] =
        RolloutJournal(folder.path() / std::to_string(world.rank()), world).load(3, kIdentity);
  });
  for (const RolloutProgress& progress : read) {
    CHECK(progress.groups.empty());
    CHECK(progress.num_left_aside == 3);
  }
}

TEST_CASE("Rollouts up to a step are removed, later ones and what is not of a journal stay") {
  const Alone alone;
  for (const std::int64_t step : {1, 2, 3, 4, 100'000'000}) {
    write(alone.journal, step, make_groups());
  }
  write_file_atomically(alone.folder / "step-00000001" / "group-00000001.pb.tmp", "killed");
  write_file_atomically(alone.folder / "step-00000002" / "notes", "mine");
  for (const char* name : {"step-1", "step-0000000x"}) {
    std::filesystem::create_directory(alone.folder / name);
  }
  const std::filesystem::path elsewhere = alone.temporary.path() / "elsewhere";
  std::filesystem::create_directory(elsewhere);
  write_file_atomically(elsewhere / "group-00000001.pb", "");
  std::filesystem::create_directory_symlink(elsewhere, alone.folder / "step-00000000");
  alone.journal.forget(3);
  CHECK(names_in(alone.folder) == std::set<std::string>{"step-00000000", "step-00000002",
                                                        "step-00000004", "step-0000000x", "step-1",
                                                        "step-100000000"});
  CHECK(names_in(alone.folder / "step-00000002") == std::set<std::string>{"notes"});
  CHECK(names_in(elsewhere).size() == 1);
  CHECK(alone.loaded(4, kIdentity).first.size() == 3);
  std::filesystem::remove_all(alone.folder);
  CHECK_NOTHROW(alone.journal.forget(3));
}

TEST_CASE("A journal that cannot be written or read is the same error on every rank") {
  const test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "in_the_way", "");
  std::filesystem::create_directories(folder.path() / "odd/step-00000003/group-00000001.pb");
  std::vector<int> errors(2, 0);
  test::run_ranks(2, [&](parallel::Communicator& world, Stream&) {
    int& count = errors[static_cast<std::size_t>(world.rank())];
    try {  // rank 1 alone writes
      write(RolloutJournal(folder.path() / "in_the_way", world), 3, {{1, make_groups().at(1)}});
    } catch (const IoError&) {
      ++count;
    }
    for (const char* name : {"in_the_way", "odd"}) {
      try {
        RolloutJournal(folder.path() / name, world).load(3, kIdentity);
      } catch (const IoError&) {
        ++count;
      }
    }
  });
  CHECK(errors == std::vector<int>{3, 3});
}

}  // namespace fathom::rl
