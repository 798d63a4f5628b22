#include "rl/problems/generator.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/rng.h"

namespace fathom::rl {
namespace {

constexpr std::array kFamilies{
    ProblemFamily{"arithmetic", "digits of an operand", 1, 18, &draw_arithmetic},
    ProblemFamily{"countdown", "numbers to combine", 2, 6, &draw_countdown},
    ProblemFamily{"sorting", "digits to sort", 2, 64, &draw_sorting},
    ProblemFamily{"linear_equation",
                  "1: unknown on one side, 2: on both, 3: with a solution that is no integer", 1, 3,
                  &draw_linear_equation},
    ProblemFamily{"knights_and_knaves", "people", 2, 6, &draw_knights_and_knaves},
};

// Must not change: a problem that a model was trained on would become a held-out one.
constexpr std::uint64_t kSplitKey = 0x68656c64206f7574U;
constexpr std::uint64_t kOneHeldOutIn = 8;
// Families let through at least one draw in about 50 (tests/rl/problems/generator_test.cc), and
// of those one in eight is held out.
constexpr int kMaxDraws = 100'000;

const ProblemFamily& find_family(const ProblemSet& set) {
  std::string names;
  for (const ProblemFamily& family : kFamilies) {
    if (family.name == set.family) {
      if (set.difficulty < family.min_difficulty || set.difficulty > family.max_difficulty) {
        throw ConfigError(concat("problems of family ", family.name, ": difficulty ",
                                 set.difficulty, " (", family.difficulty_means, "), want ",
                                 family.min_difficulty, " to ", family.max_difficulty));
      }
      return family;
    }
    names += concat(names.empty() ? "" : ", ", family.name);
  }
  throw ConfigError(concat("no family of problems \"", set.family, "\"; there are ", names));
}

Split split_of(const ProblemFamily& family, const Instance& instance) {
  const RandomSource hash(kSplitKey, concat(family.name, "/", instance.canonical));
  return hash.below(0, kOneHeldOutIn) == 0 ? Split::kHeldOut : Split::kTrain;
}

}  // namespace

std::span<const ProblemFamily> problem_families() { return kFamilies; }

int easiest_difficulty(std::string_view family) {
  const auto* const found = std::ranges::find(kFamilies, family, &ProblemFamily::name);
  return found == std::end(kFamilies) ? 1 : found->min_difficulty;
}

std::string WorkedProblem::solution() const {
  return concat("<think>", thoughts, "</think><answer>", problem.answer, "</answer>");
}

Problem generate_problem(const ProblemSet& set, std::uint64_t index) {
  return generate_worked_problem(set, index).problem;
}

WorkedProblem generate_worked_problem(const ProblemSet& set, std::uint64_t index) {
  const ProblemFamily& family = find_family(set);
  const std::string name = concat(family.name, "-", set.difficulty, "-",
                                  set.split == Split::kTrain ? "train" : "held_out");
  Draws draws(set.seed, concat("problems/", name, "/", index));
  for (int i = 0; i < kMaxDraws; ++i) {
    std::optional<Instance> instance = family.draw(draws, set.difficulty);
    if (instance && split_of(family, *instance) == set.split) {
      return {.problem = {.id = concat(name, "-", set.seed, "-", index),
                          .prompt = std::move(instance->prompt),
                          .answer = std::move(instance->answer),
                          .verifier = std::move(instance->verifier)},
              .thoughts = std::move(instance->thoughts)};
    }
  }
  throw InternalError(concat("no problem ", name, " in ", kMaxDraws, " draws"));
}

}  // namespace fathom::rl
