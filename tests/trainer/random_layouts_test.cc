// The promise of docs/numerics.md on models, batches and layouts that nobody thought of.
#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "configs/write.h"
#include "core/error.h"
#include "tests/support/broken_communicator.h"
#include "tests/support/catch.h"
#include "tests/trainer/drawn_run.h"
#include "tests/trainer/draws.h"
#include "tests/trainer/recorded_run.h"

using namespace fathom;
using namespace fathom::testing;

namespace {

constexpr const char* kVariable = "FATHOM_RANDOM_LAYOUTS";

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
  const std::string_view text = given == nullptr ? "0-11" : given;
  const std::size_t dash = text.find('-');
  const std::uint64_t first = read_number(text.substr(0, dash));
  const std::uint64_t last = dash == text.npos ? first : read_number(text.substr(dash + 1));
  std::vector<std::uint64_t> seeds;
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    seeds.push_back(seed);
  }
  return seeds;
}

std::string run_and_compare(const RunRecord& reference, const DrawnRun& run, std::size_t index,
                            Draws& draws) {
  RecordOptions options;
  if (draws.one_in(4)) {
    options.begins_on =
        &run.others[static_cast<std::size_t>(draws.between(0, std::ssize(run.others) - 1))];
    options.resume_step = draws.between(1, run.alone.config.train().steps() - 1);
  }
  try {
    return difference(reference, take_run(run.others[index], run.prompts, options));
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("EXACT: runs drawn at random have the bits of one rank on layouts drawn at random") {
  constexpr int kLayouts = 4;
  for (const std::uint64_t seed : seeds()) {
    INFO(kVariable << "=" << seed << " repeats this");
    const DrawnRun run = draw_run(seed, kLayouts);
    INFO("alone:\n" << config::to_text(run.alone.config));
    const RunRecord reference = take_run(run.alone, run.prompts);
    Draws draws(seed, "resumes");
    for (std::size_t i = 0; i < run.others.size(); ++i) {
      INFO("layout " << i << ":\n" << config::to_text(run.others[i].config));
      CHECK(run_and_compare(reference, run, i, draws) == "");
    }
  }
}
