#pragma once

#include "rl/verifiers/exact_number.h"
#include "rl/verifiers/verifier.h"

namespace fathom::rl {

// Numbers as exact rationals (read_number in exact_number.h says what is one). Equal are
//   the same value, however written: 004, 4.0, 8/2, 1,000 and 1000
//   a percentage and a bare number that is its figure or its value: 28%, 28 and 0.28
//   a decimal of at least 6 significant digits and the fraction that it is the rounding of
// There is no other tolerance.
class NumberVerifier final : public Verifier {
 public:
  // Throws ConfigError unless `answer` is a number.
  explicit NumberVerifier(std::string_view answer);
  Verification verify(std::string_view answer) const override;

 private:
  std::string text_;
  ExactNumber number_;
};

}  // namespace fathom::rl
