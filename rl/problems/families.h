#pragma once

#include <optional>
#include <string>

#include "core/draws.h"

namespace fathom::rl {

// One problem of a family, before it has an id.
struct Instance {
  // What the problem is, whatever it looks like: the same for problems that are one another's
  // trivial rewording (3 + 5 and 5 + 3, other names). Decides between training and held out.
  std::string canonical;
  std::string prompt;
  std::string answer;
  std::string verifier;
  std::string thoughts;  // steps that lead to the answer, as someone would write them down
};

// Each family draws an instance of the difficulty, or nothing when what it drew does not qualify.
// The bounds of `difficulty` are those of problem_families() (rl/problems/generator.h).

// "48 + 37 =": operands of `difficulty` digits; at least half of the positions carry or borrow.
// One digit is addition only, as its subtractions never borrow.
std::optional<Instance> draw_arithmetic(Draws& draws, int difficulty);

// "Use each of 3, 5, 7 once with + - * / to make 22.": `difficulty` numbers of 1 .. 20, a target of
// 1 .. 999. The answer is one solution of many, whose intermediate results are positive integers.
std::optional<Instance> draw_countdown(Draws& draws, int difficulty);

// "Sort 7 3 9 1.": `difficulty` digits.
std::optional<Instance> draw_sorting(Draws& draws, int difficulty);

// "Solve 3x + 4 = 19 for x.": 1: the unknown on one side, 2: on both, each with a solution that is
// an integer of -9 .. 9; 3: on both, with one that is not an integer.
std::optional<Instance> draw_linear_equation(Draws& draws, int difficulty);

// Who is a knight and tells the truth, who a knave and lies: `difficulty` people say one thing
// each, and exactly one assignment fits.
std::optional<Instance> draw_knights_and_knaves(Draws& draws, int difficulty);

}  // namespace fathom::rl
