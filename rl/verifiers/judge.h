#pragma once

#include <string>
#include <string_view>

#include "rl/verifiers/extract.h"
#include "rl/verifiers/verifier.h"

namespace fathom::rl {

struct Judgement {
  Verdict verdict = Verdict::kWrong;
  std::string answer;  // what was extracted, as it was written; empty: no answer
  std::string reason;  // "rule of extraction: reason of the verifier", or "no answer"

  bool operator==(const Judgement&) const = default;
};

// Extracts the answer from what a model wrote and compares it with the ground truth. No answer is a
// wrong one.
Judgement judge(std::string_view completion, const Verifier& verifier,
                const ExtractionOptions& options);

}  // namespace fathom::rl
