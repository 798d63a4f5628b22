#include "rl/verifiers/verifier.h"

#include "core/error.h"
#include "rl/verifiers/countdown_verifier.h"
#include "rl/verifiers/integers_verifier.h"
#include "rl/verifiers/knights_verifier.h"
#include "rl/verifiers/number_verifier.h"
#include "rl/verifiers/text_verifier.h"

namespace fathom::rl {

std::string_view to_text(Verdict verdict) {
  switch (verdict) {
    case Verdict::kCorrect:
      return "correct";
    case Verdict::kWrong:
      return "wrong";
  }
  return "";
}

std::unique_ptr<const Verifier> make_verifier(std::string_view name, std::string_view answer) {
  constexpr std::string_view kCountdownList = "countdown:";
  if (name == "number") {
    return std::make_unique<NumberVerifier>(answer);
  }
  if (name == "integers") {
    return std::make_unique<IntegersVerifier>(answer);
  }
  if (name == "countdown") {
    return std::make_unique<CountdownVerifier>(answer);
  }
  if (name.starts_with(kCountdownList)) {
    return std::make_unique<CountdownVerifier>(answer, name.substr(kCountdownList.size()));
  }
  if (name == "knights_and_knaves") {
    return std::make_unique<KnightsVerifier>(answer);
  }
  if (name == "text") {
    return std::make_unique<TextVerifier>(answer);
  }
  throw ConfigError(concat("no verifier \"", name,
                           "\"; there are number, integers, countdown, countdown:NUMBERS, "
                           "knights_and_knaves, text"));
}

}  // namespace fathom::rl
