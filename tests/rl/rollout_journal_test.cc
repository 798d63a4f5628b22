#include "rl/rollout_journal.h"

#include <bit>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "tests/support/temporary_folder.h"

namespace fathom::rl {
namespace {

const RolloutIdentity kIdentity{.start = 0xFEDCBA9876543210U, .choices = "a\nb", .group_size = 2};

// A group that is scored, with a sample that could not be, and one in flight.
RolloutProgress make_progress() {
  RolloutProgress progress;
  SampleProgress& whole = progress[{0, 0}];
  whole.completion.tokens = {3, 1, 4};
  whole.completion.logprobs = {-0.1F, -std::numeric_limits<float>::denorm_min(), -0.0F};
  whole.score = Score{.total = 0.1, .parts = {{0.1, "so"}, {std::nullopt, "lost\xFF"}}};
  progress[{0, 1}].score = Score{.total = std::nullopt, .parts = {{std::nullopt, ""}}};
  progress[{1, 0}].completion.tokens = {9};
  progress[{1, 0}].completion.logprobs = {-2.5F};
  progress[{1, 1}] = {};
  return progress;
}

void check_equal(const RolloutProgress& found, const RolloutProgress& want) {
  REQUIRE(found.size() == want.size());
  for (const auto& [place, sample] : want) {
    CAPTURE(place.first, place.second);
    const SampleProgress& other = found.at(place);
    CHECK(other.completion.tokens == sample.completion.tokens);
    REQUIRE(other.completion.logprobs.size() == sample.completion.logprobs.size());
    for (std::size_t i = 0; i < sample.completion.logprobs.size(); ++i) {
      CHECK(std::bit_cast<std::uint32_t>(other.completion.logprobs[i]) ==
            std::bit_cast<std::uint32_t>(sample.completion.logprobs[i]));
    }
    REQUIRE(other.score.has_value() == sample.score.has_value());
    if (sample.score) {
      CHECK(other.score->total == sample.score->total);
      CHECK(other.score->parts == sample.score->parts);
    }
  }
}

// A journal on a world of one.
struct Alone {
  test::TemporaryFolder folder;
  std::vector<std::unique_ptr<parallel::Communicator>> world = parallel::make_thread_world(1);
  RolloutJournal journal{folder.path() / "rollout", *world.front()};
  std::filesystem::path file = folder.path() / "rollout" / "step-00000003.pb";
};

}  // namespace

TEST_CASE("A rollout in flight comes back bit for bit, on any number of ranks") {
  const test::TemporaryFolder folder;
  for (const auto& [writers, readers] : {std::pair{1, 3}, std::pair{3, 1}}) {
    test::run_ranks(writers, [&](parallel::Communicator& world, Stream&) {
      RolloutJournal(folder.path() / "rollout", world).write(3, kIdentity, make_progress());
    });
    std::vector<RolloutProgress> read(static_cast<std::size_t>(readers));
    test::run_ranks(readers, [&](parallel::Communicator& world, Stream&) {
      read[static_cast<std::size_t>(world.rank())] =
          RolloutJournal(folder.path() / "rollout", world).load(3, kIdentity);
    });
    for (const RolloutProgress& progress : read) {
      check_equal(progress, make_progress());
    }
  }
}

TEST_CASE("A rollout of another step, other weights or other choices is left aside") {
  Alone alone;
  CHECK(alone.journal.load(3, kIdentity).empty());
  alone.journal.write(3, kIdentity, make_progress());
  CHECK(alone.journal.load(3, kIdentity).size() == 4);
  CHECK(alone.journal.load(2, kIdentity).empty());
  RolloutIdentity other = kIdentity;
  ++other.start;
  CHECK(alone.journal.load(3, other).empty());
  other = kIdentity;
  other.choices += "c";
  CHECK(alone.journal.load(3, other).empty());
}

TEST_CASE("A rollout with any byte wrong or missing is left aside") {
  Alone alone;
  alone.journal.write(3, kIdentity, make_progress());
  const std::string whole = read_file(alone.file);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    std::ofstream(alone.file, std::ios::binary) << damaged;
    CAPTURE(i);
    CHECK(alone.journal.load(3, kIdentity).empty());
    std::ofstream(alone.file, std::ios::binary) << whole.substr(0, i);
    CHECK(alone.journal.load(3, kIdentity).empty());
  }
  write_file_atomically(alone.file, whole);
  CHECK(alone.journal.load(3, kIdentity).size() == 4);
}

TEST_CASE("Rollouts up to a step are removed, later ones and other files stay") {
  Alone alone;
  for (const std::int64_t step : {1, 2, 3, 4, 100'000'000}) {
    alone.journal.write(step, kIdentity, make_progress());
  }
  const auto folder = alone.file.parent_path();
  write_file_atomically(folder / "step-1.pb.mine", "");
  write_file_atomically(folder / "step-x.pb", "");
  alone.journal.forget(3);
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  CHECK(names == std::set<std::string>{"step-00000004.pb", "step-100000000.pb", "step-1.pb.mine",
                                       "step-x.pb"});
}

TEST_CASE("A journal that cannot be written is the same error on every rank") {
  const test::TemporaryFolder folder;
  write_file_atomically(folder.path() / "rollout", "in the way");
  std::vector<int> errors(2, 0);
  test::run_ranks(2, [&](parallel::Communicator& world, Stream&) {
    const RolloutJournal journal(folder.path() / "rollout", world);
    try {
      journal.write(3, kIdentity, make_progress());
    } catch (const IoError&) {
      errors[static_cast<std::size_t>(world.rank())] = 1;
    }
  });
  CHECK(errors == std::vector<int>{1, 1});
}

TEST_CASE("Scores of rank 0 reach every rank as they are") {
  const std::vector<Score> scores{{.total = 1.0 / 3, .parts = {{1.0 / 3, "a"}}},
                                  {.total = std::nullopt, .parts = {{std::nullopt, "b"}}},
                                  {}};
  std::vector<std::vector<Score>> received(3);
  test::run_ranks(3, [&](parallel::Communicator& world, Stream&) {
    received[static_cast<std::size_t>(world.rank())] =
        broadcast_scores(world.rank() == 0 ? scores : std::vector<Score>{}, world);
  });
  for (const auto& of_rank : received) {
    REQUIRE(of_rank.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(of_rank[i].total == scores[i].total);
      CHECK(of_rank[i].parts == scores[i].parts);
    }
  }
}

}  // namespace fathom::rl
