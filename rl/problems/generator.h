#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "rl/problems/families.h"
#include "rl/problems/problem.h"

namespace fathom::rl {

// The built-in families of problems with exact verifiers.
struct ProblemFamily {
  std::string_view name;
  std::string_view difficulty_means;  // in words, for help and errors
  int min_difficulty = 1;
  int max_difficulty = 1;
  std::optional<Instance> (*draw)(Draws& draws, int difficulty) = nullptr;
};
std::span<const ProblemFamily> problem_families();
// What a family has where no difficulty is given; 1 for an unknown one, which generate_problem()
// refuses with the names that there are.
int easiest_difficulty(std::string_view family);

enum class Split { kTrain, kHeldOut };

// An endless sequence of problems.
struct ProblemSet {
  std::string family;
  int difficulty = 1;
  Split split = Split::kTrain;
  std::uint64_t seed = 0;
};

// Problem `index` of the set: a pure function of both arguments. Training and held-out sets are
// disjoint by construction, whatever their seeds, indices and difficulties: a hash of what the
// problem is (Instance::canonical) decides which side it belongs to, one in eight being held out. A
// set may repeat itself; small families do. Throws ConfigError for an unknown family and for a
// difficulty that the family does not have.
Problem generate_problem(const ProblemSet& set, std::uint64_t index);

// The same problem and how to get to its answer: what a cold start learns from.
struct WorkedProblem {
  Problem problem;
  std::string thoughts;

  // <think>thoughts</think><answer>answer</answer>
  std::string solution() const;
};
WorkedProblem generate_worked_problem(const ProblemSet& set, std::uint64_t index);

}  // namespace fathom::rl
