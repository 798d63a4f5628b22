#include "rl/verifiers/number_verifier.h"

#include <algorithm>

#include "core/error.h"
#include "rl/verifiers/normalize.h"

namespace fathom::rl {
namespace {

constexpr int kMinSignificantDigits = 6;

bool is_integer(const ExactNumber& number) { return number.value.get_den() == 1; }

bool is_same_percentage(const ExactNumber& answer, const ExactNumber& truth) {
  if (answer.value == truth.value) {
    return true;
  }
  // 28% is 0.28, but 500% is no way to say how many 5 are.
  return answer.is_percent ? answer.value == 100 * truth.value && !is_integer(truth)
                           : truth.value == 100 * answer.value;
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
    return is_same_percentage(answer, truth) ? Verification{Verdict::kCorrect, "same percentage"}
                                             : Verification{Verdict::kWrong, "other number"};
  }
  if (is_rounding_of(answer, truth)) {
    return {Verdict::kCorrect, "rounded decimal"};
  }
  return {Verdict::kWrong, "other number"};
}

// The first number that is wrong decides.
Verification compare(const NumberTuple& answer, const NumberTuple& truth) {
  if (answer.brackets != truth.brackets || answer.numbers.size() != truth.numbers.size()) {
    return {Verdict::kWrong, "other number"};
  }
  Verification result;
  for (std::size_t i = 0; i < truth.numbers.size(); ++i) {
    result = compare(answer.numbers[i], truth.numbers[i]);
    if (result.verdict != Verdict::kCorrect) {
      break;
    }
  }
  return result;
}

}  // namespace

NumberVerifier::NumberVerifier(std::string_view answer) : text_(normalize(answer)) {
  NumberTupleReading reading = read_number_tuple(text_);
  if (!reading.tuple) {
    throw ConfigError(concat("the answer \"", answer.substr(0, 80), "\" is no number",
                             reading.failure.empty() ? "" : ": ", reading.failure));
  }
  truth_ = std::move(*reading.tuple);
  if (std::ranges::any_of(truth_.numbers, &ExactNumber::has_unit)) {
    throw ConfigError(concat("the answer \"", answer.substr(0, 80),
                             "\" has a unit, which is not compared; leave it out"));
  }
}

Verification NumberVerifier::verify(std::string_view answer) const {
  const std::string text = normalize(answer);
  if (text == text_) {
    return {Verdict::kCorrect, "same text"};
  }
  const NumberTupleReading reading = read_number_tuple(text);
  if (reading.tuple) {
    return compare(*reading.tuple, truth_);
  }
  // What is beyond the limits is not the truth, which is within them.
  return {Verdict::kWrong,
          concat("not a number", reading.failure.empty() ? "" : ": ", reading.failure)};
}

}  // namespace fathom::rl
