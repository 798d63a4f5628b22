#include "rl/verifiers/number_verifier.h"

#include "core/error.h"
#include "rl/verifiers/normalize.h"

namespace fathom::rl {
namespace {

constexpr int kMinSignificantDigits = 6;

bool is_same_share(const ExactNumber& percentage, const ExactNumber& bare) {
  return percentage.value == bare.value || percentage.value == 100 * bare.value;
}

// |decimal - fraction| is at most half a unit of the decimal's last place.
bool is_rounding_of(const ExactNumber& decimal, const ExactNumber& fraction) {
  if (!fraction.is_fraction || decimal.significant_digits < kMinSignificantDigits) {
    return false;
  }
  mpz_class units;
  mpz_ui_pow_ui(units.get_mpz_t(), 10, static_cast<unsigned long>(decimal.num_decimals));
  const mpq_class difference = abs(decimal.value - fraction.value) * mpq_class(units);
  return 2 * difference <= 1;
}

Verification compare(const ExactNumber& answer, const ExactNumber& truth) {
  if (answer.value == truth.value && answer.is_percent == truth.is_percent) {
    return {Verdict::kCorrect, "same number"};
  }
  if (answer.is_percent != truth.is_percent) {
    const bool is_same =
        answer.is_percent ? is_same_share(answer, truth) : is_same_share(truth, answer);
    return is_same ? Verification{Verdict::kCorrect, "same percentage"}
                   : Verification{Verdict::kWrong, "other number"};
  }
  if (is_rounding_of(answer, truth) || is_rounding_of(truth, answer)) {
    return {Verdict::kCorrect, "rounded decimal"};
  }
  return {Verdict::kWrong, "other number"};
}

}  // namespace

NumberVerifier::NumberVerifier(std::string_view answer) : text_(normalize(answer)) {
  NumberReading reading = read_number(text_);
  if (!reading.number) {
    throw ConfigError(concat("the answer \"", answer.substr(0, 80), "\" is no number",
                             reading.failure.empty() ? "" : ": ", reading.failure));
  }
  number_ = std::move(*reading.number);
}

Verification NumberVerifier::verify(std::string_view answer) const {
  const std::string text = normalize(answer);
  if (text == text_) {
    return {Verdict::kCorrect, "same text"};
  }
  const NumberReading reading = read_number(text);
  if (reading.number) {
    return compare(*reading.number, number_);
  }
  return reading.failure.empty() ? Verification{Verdict::kWrong, "not a number"}
                                 : Verification{Verdict::kVerifierFailed, reading.failure};
}

}  // namespace fathom::rl
