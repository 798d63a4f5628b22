#pragma once

#include <gmpxx.h>

#include <optional>
#include <string>
#include <string_view>

namespace fathom::rl {

// A number with how it is written.
struct ExactNumber {
  mpq_class value;             // 28 of "28%"
  bool is_percent = false;     // has a % behind it
  bool has_unit = false;       // has a unit behind it (unit.h), which the value leaves out
  bool is_fraction = false;    // written as a quotient, a power or a root
  int num_decimals = 0;        // digits after the point of a decimal
  int significant_digits = 0;  // of a decimal: from its first digit that is not 0 on
};

struct NumberReading {
  std::optional<ExactNumber> number;
  // Why it is not read: the number is beyond the limits, or can be read in two ways. Empty
  // when the text is a number, or none at all.
  std::string failure;
};

// Reads a number, exactly: a sign, and one of
//   an integer or decimal, with , or space between groups of three digits, with e5 or * 10^5
//   a quotient p/q, \frac{p}{q}, \frac13, and a mixed number 7 3/4
//   a power 2^{100}, 2^-3
//   a square root \sqrt{4/9} that is rational
// each part in braces or parentheses if they like (no , in parentheses: (1,234) may be a pair),
// then an optional % or unit (unit.h). Sums and products are no numbers: else repeating the
// question would answer it. Limits: 4096 digits, 4096 as a decimal exponent, 65536 as any other, 16
// levels of braces, and 2^18 bits for all values on the way together. `text` is normalized
// (normalize.h).
NumberReading read_number(std::string_view text);

}  // namespace fathom::rl
