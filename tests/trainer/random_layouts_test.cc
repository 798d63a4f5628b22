// The promise of docs/numerics.md on models, batches and layouts that nobody thought of.
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "configs/resolve.h"
#include "configs/validate.h"
#include "configs/write.h"
#include "core/error.h"
#include "tests/support/broken_communicator.h"
#include "tests/support/catch.h"
#include "tests/trainer/changed_field.h"
#include "tests/trainer/choices.h"
#include "tests/trainer/drawn_run.h"
#include "tests/trainer/recorded_run.h"

using namespace fathom;
using namespace fathom::testing;

namespace {

constexpr int kLayouts = 4;  // beside one rank
constexpr const char* kVariable = "FATHOM_RANDOM_LAYOUTS";
#ifdef __SANITIZE_ADDRESS__
constexpr std::string_view kDefaultSeeds = "15-17";  // ten times slower
#else
constexpr std::string_view kDefaultSeeds = "15-23";  // all axes, interleaving, MTP, both routers
#endif

std::uint64_t read_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw ConfigError(concat(kVariable, " is not a seed, 17, or a range of them, 1000-1999"));
  }
  return number;
}

// Those that the environment asks for, 17 or 1000-1999, else a few.
std::vector<std::uint64_t> seeds() {
  const char* const given = std::getenv(kVariable);
  const std::string_view text = given == nullptr ? kDefaultSeeds : std::string_view(given);
  const std::size_t dash = text.find('-');
  const std::uint64_t first = read_number(text.substr(0, dash));
  const std::uint64_t last = dash == text.npos ? first : read_number(text.substr(dash + 1));
  std::vector<std::uint64_t> seeds;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    seeds.push_back(seed);
  }
  return seeds;
}

// Where the record of a layout parts from that of one rank, or the error that ended it; empty when
// it does not.
std::string difference_on(const DrawnLayout& layout, const DrawnRun& run,
                          const RunRecord& reference, const RecordOptions& options) {
  try {
    return difference(reference, take_run(layout, run.prompts, options));
  } catch (const Error& error) {
    return error.what();
  }
}

// A quarter of the runs take their first steps on another of the layouts.
RecordOptions draw_resume(Choices& draws, const DrawnRun& run) {
  RecordOptions options;
  if (draws.one_in(4)) {
    const std::int64_t other = draws.between(0, std::ssize(run.others) - 1);
    options.begins_on = &run.others[static_cast<std::size_t>(other)];
    options.resume_step = draws.between(1, run.alone.config.train().steps() - 1);
  }
  return options;
}

// As text for a message: nothing where the run is taken in one go.
std::string beginning_of(const RecordOptions& options) {
  return options.begins_on == nullptr ? ""
                                      : concat("after ", options.resume_step, " steps with\n",
                                               config::to_text(options.begins_on->config));
}

// What is wrong with how a run of one changed field ends: refused by the rules without its name, or
// accepted and not taken. Empty when nothing is.
std::string run_or_refusal(const DrawnLayout& layout, const ChangedField& changed) {
  const std::vector<std::string> problems = config::find_problems(layout.config, layout.num_ranks);
  const std::string leaf = changed.path.substr(changed.path.rfind('.') + 1);
  const auto names_it = [&](const std::string& line) { return line.find(leaf) != line.npos; };
  if (!problems.empty()) {
    return std::ranges::any_of(problems, names_it) ? "" : problems.front();
  }
  if (!changed.is_small) {
    return "";
  }
  try {
    take_run(layout, {});
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("Whatever a field of a config holds, the rules refuse it by name, or the run is taken") {
  for (const std::uint64_t seed : seeds()) {
    const DrawnRun run = draw_run(seed, 1);
    DrawnLayout layout = run.others.empty() ? run.alone : run.others.front();
    Choices draws(seed, "change");
    const ChangedField changed = change_a_field(draws, layout.config);
    const config::Mesh& mesh = layout.config.mesh();
    const std::int64_t num_ranks = std::int64_t{mesh.pipeline()} * mesh.data() * mesh.tensor();
    if (num_ranks >= 1 && num_ranks <= 16) {
      layout.num_ranks = static_cast<int>(num_ranks);
    }
    INFO(kVariable << '=' << seed << " repeats this: " << changed.path << " is now "
                   << changed.value);
    config::resolve(layout.config, {.world_size = layout.num_ranks});
    INFO(config::to_text(layout.config));
    CHECK(run_or_refusal(layout, changed) == "");
  }
}

TEST_CASE("EXACT: runs drawn at random have the bits of one rank on layouts drawn at random") {
  for (const std::uint64_t seed : seeds()) {
    INFO(kVariable << '=' << seed << " repeats this");
    const DrawnRun run = draw_run(seed, kLayouts);
    const RunRecord reference = take_run(run.alone, run.prompts);
    Choices draws(seed, "resumes");
    for (const DrawnLayout& layout : run.others) {
      const RecordOptions options = draw_resume(draws, run);
      INFO(config::to_text(layout.config) << beginning_of(options));
      CHECK(difference_on(layout, run, reference, options) == "");
    }
  }
}

TEST_CASE("EXACT: a wrong sum, a missing contribution and a rank's own seed show in a drawn run") {
  constexpr std::uint64_t kSeed = 17;  // data, 4 tensor ranks, experts
  const DrawnRun run = draw_run(kSeed, 1);
  const DrawnLayout& layout = run.others.at(0);
  REQUIRE(layout.config.mesh().tensor() == 4);
  REQUIRE(layout.config.mesh().data() > 1);
  const RunRecord reference = take_run(run.alone, run.prompts);
  CHECK(difference_on(layout, run, reference, {}) == "");
  for (const Fault fault : {Fault::kReversedSums, Fault::kDroppedContribution}) {
    RecordOptions broken;
    broken.wrap = [fault](parallel::Communicator& world) {
      return break_communicator(world, fault);
    };
    CHECK(difference_on(layout, run, reference, broken) != "");
  }
  RecordOptions by_rank;
  by_rank.seed_of_rank = [](int rank) { return static_cast<std::uint64_t>(rank); };
  CHECK(difference_on(layout, run, reference, by_rank) != "");
}
