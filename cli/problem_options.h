#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "rl/problems/generator.h"

namespace fathom::cli {

// Problems 0 .. count - 1 of a built-in family.
struct FamilyProblems {
  rl::ProblemSet set;
  std::int64_t count = 0;
};

// --count N, --difficulty D, --split train|held_out, and the seed, whose option's name differs from
// command to command.
std::vector<OptionSpec> family_option_specs(const std::string& seed_option);
// Throws ConfigError.
FamilyProblems read_family_problems(const std::string& family, const ParsedOptions& given,
                                    const std::string& seed_option);

// Throws ConfigError: see rl::generate_problem().
std::vector<rl::Problem> generate_problems(const FamilyProblems& problems);

}  // namespace fathom::cli
