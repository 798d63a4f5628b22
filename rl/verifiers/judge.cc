#include "rl/verifiers/judge.h"

#include "core/error.h"

namespace fathom::rl {

Judgement judge(std::string_view completion, const Verifier& verifier,
                const ExtractionOptions& options) {
  std::optional<Extraction> extraction = extract_answer(completion, options);
  if (!extraction) {
    return {.verdict = Verdict::kWrong, .answer = "", .reason = "no answer"};
  }
  const Verification verification = verifier.verify(extraction->answer);
  return {.verdict = verification.verdict,
          .answer = std::move(extraction->answer),
          .reason = concat(extraction->rule, ": ", verification.reason)};
}

}  // namespace fathom::rl
