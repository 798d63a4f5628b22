#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rl/verifiers/exact_number.h"

namespace fathom::rl {

// One number, or 2 to 16 in brackets: a point (1, 2), an interval [0, 9).
struct NumberTuple {
  std::string brackets;  // "[)"; empty: one number
  std::vector<ExactNumber> numbers;
};

struct NumberTupleReading {
  std::optional<NumberTuple> tuple;
  std::string failure;  // of a number (exact_number.h)
};

// A number as read_solution() reads it, else numbers (exact_number.h) between ( or [ and ) or ],
// parted by commas, so that none has one between its thousands. `text` is normalized (normalize.h).
NumberTupleReading read_number_tuple(std::string_view text);

}  // namespace fathom::rl
