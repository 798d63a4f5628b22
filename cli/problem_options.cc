#include "cli/problem_options.h"

#include "core/error.h"

namespace fathom::cli {
namespace {

rl::Split parse_split(const std::string& text) {
  if (text == "train") {
    return rl::Split::kTrain;
  }
  if (text == "held_out") {
    return rl::Split::kHeldOut;
  }
  throw ConfigError(concat("--split ", text, ": want train or held_out"));
}

}  // namespace

std::vector<OptionSpec> family_option_specs(const std::string& seed_option) {
  return {{"count"}, {"difficulty"}, {"split"}, {seed_option}};
}

FamilyProblems read_family_problems(const std::string& family, const ParsedOptions& given,
                                    const std::string& seed_option) {
  FamilyProblems problems;
  problems.set.family = family;
  problems.set.difficulty = given.has("difficulty")
                                ? static_cast<int>(given.integer("difficulty", 1, INT32_MAX))
                                : rl::easiest_difficulty(family);
  problems.set.split = parse_split(given.value("split").value_or("train"));
  problems.set.seed = given.has(seed_option)
                          ? static_cast<std::uint64_t>(given.integer(seed_option, 0, INT64_MAX))
                          : 0;
  problems.count = given.integer("count", 1, INT32_MAX);
  return problems;
}

std::vector<rl::Problem> generate_problems(const FamilyProblems& problems) {
  std::vector<rl::Problem> made;
  for (std::int64_t index = 0; index < problems.count; ++index) {
    made.push_back(rl::generate_problem(problems.set, static_cast<std::uint64_t>(index)));
  }
  return made;
}

}  // namespace fathom::cli
