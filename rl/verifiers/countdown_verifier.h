#pragma once

#include <gmpxx.h>

#include <cstdint>
#include <map>

#include "rl/verifiers/verifier.h"

namespace fathom::rl {

// An expression of + - * / ( ) over given numbers with a given value, in exact rational arithmetic.
// "(3 + 5) * 7 = 56" is let through when what follows the = is that value. There is no power, no
// sign before a number and no product without its sign. No recursion: nesting costs memory alone.
class CountdownVerifier final : public Verifier {
 public:
  // The target is the value of `answer`. Its numbers are to be used exactly once each; or those of
  // `at_most_once` ("3,5,7"), some of which may be left out. Throws ConfigError when `answer` is no
  // such expression or does not keep to the list.
  explicit CountdownVerifier(std::string_view answer);
  CountdownVerifier(std::string_view answer, std::string_view at_most_once);
  Verification verify(std::string_view answer) const override;

 private:
  using Counts = std::map<std::int64_t, int>;  // how often each number is there

  CountdownVerifier(std::string_view answer, Counts numbers, bool must_use_all);

  Counts numbers_;
  bool must_use_all_;
  mpq_class target_;
};

}  // namespace fathom::rl
