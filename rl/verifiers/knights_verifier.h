#pragma once

#include <map>
#include <string>

#include "rl/verifiers/verifier.h"

namespace fathom::rl {

// Who is a knight and who a knave: "Alice knight, Bob knave", "Bob is a knave and Alice is a
// knight.", in any order and any case. Other words than the names, knight, knave, is, a, and, the
// make an answer wrong, as nothing else is understood ("not" among it).
class KnightsVerifier final : public Verifier {
 public:
  // Throws ConfigError unless `answer` says it of at least one person.
  explicit KnightsVerifier(std::string_view answer);
  Verification verify(std::string_view answer) const override;

 private:
  std::map<std::string, bool> is_knight_;  // by name in lower case
};

}  // namespace fathom::rl
