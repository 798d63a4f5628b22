#pragma once

#include "rl/verifiers/number_tuple.h"
#include "rl/verifiers/verifier.h"

namespace fathom::rl {

// Numbers as exact rationals (solution.h and number_tuple.h say what is read). Right is
//   the same value, however written: 004, 4.0, 8/2, \sqrt{16}, 1,000 and 1000
//   for a truth with a %, a bare number that is its figure or its value: 28 and 0.28 for 28%
//   for a truth without, its figure with a %, 28% for 28, and its value if it is no integer: 28%
//     for 0.28, but not 500% for 5
//   for a truth that is a quotient, power or root, its rounding to a decimal of at least 6
//     significant digits; not 355/113 for 3.14159
//   all that with a unit behind it, which is not compared
// There is no other tolerance. Of a point or an interval, (1, 2) or [0, 9), brackets, numbers and
// their order count. Nor must a quotient, power or root be worked out, as in Math-Verify:
// where a question asks for that alone ("2^10 = "), `integers` is the stricter verifier.
class NumberVerifier final : public Verifier {
 public:
  // Throws ConfigError unless `answer` is a number, or numbers in brackets, within the limits and
  // without a unit.
  explicit NumberVerifier(std::string_view answer);
  Verification verify(std::string_view answer) const override;

 private:
  std::string text_;
  NumberTuple truth_;
};

}  // namespace fathom::rl
