#pragma once

#include <string_view>

#include "rl/verifiers/exact_number.h"

namespace fathom::rl {

// Reads a number (exact_number.h) as an answer gives it: alone, or as "x = 3" for any one letter,
// or at the end of a chain x = 5 + 1 = 12/2 = 6. Each other side of a chain must be a number, or an
// expression of + - * / ( ), of the same value: "x = 99 or x = 3" is no answer. At most 16 sides.
NumberReading read_solution(std::string_view text);

}  // namespace fathom::rl
