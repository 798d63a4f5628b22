#pragma once

#include <string>
#include <vector>

#include "rl/verifiers/verifier.h"

namespace fathom::rl {

// A list of integers of any size, compared place by place. Spaces, commas and semicolons part them;
// one pair of brackets around the list is let through.
class IntegersVerifier final : public Verifier {
 public:
  // Throws ConfigError unless `answer` is a list of at least one integer.
  explicit IntegersVerifier(std::string_view answer);
  Verification verify(std::string_view answer) const override;

 private:
  std::vector<std::string> integers_;  // digits without leading zeros, '-' before them
};

}  // namespace fathom::rl
