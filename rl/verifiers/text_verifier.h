#pragma once

#include "rl/verifiers/verifier.h"

namespace fathom::rl {

// The words of a text, parted by white space.
class TextVerifier final : public Verifier {
 public:
  explicit TextVerifier(std::string_view answer);
  Verification verify(std::string_view answer) const override;

 private:
  std::string words_;
};

}  // namespace fathom::rl
