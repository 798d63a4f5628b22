#include "rl/verifiers/exact_number.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>

#include "core/error.h"

namespace fathom::rl {
namespace {

constexpr std::size_t kMaxDigits = 4096;
constexpr std::int64_t kMaxDecimalExponent = 4096;
constexpr std::int64_t kMaxPowerBits = 65536;
constexpr int kMaxDepth = 16;

// How reading ends early; never leaves this file.
struct NotANumber {};
struct Beyond {
  std::string what;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

mpz_class power_of_ten(std::int64_t exponent) {
  mpz_class result;
  mpz_ui_pow_ui(result.get_mpz_t(), 10, static_cast<unsigned long>(exponent));
  return result;
}

mpq_class quotient(const mpq_class& numerator, const mpq_class& denominator) {
  if (denominator == 0) {
    throw NotANumber();
  }
  return numerator / denominator;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  ExactNumber read() {
    ExactNumber number = signed_number(0);
    skip_spaces();
    number.is_percent = takes("%");
    skip_spaces();
    if (!rest_.empty()) {
      throw NotANumber();
    }
    return number;
  }

 private:
  bool takes(std::string_view prefix) {
    const bool is_there = rest_.starts_with(prefix);
    rest_.remove_prefix(is_there ? prefix.size() : 0);
    return is_there;
  }
  void skip_spaces() { rest_.remove_prefix(std::min(rest_.find_first_not_of(' '), rest_.size())); }
  std::size_t count_digits(std::size_t at) const {
    std::size_t end = at;
    while (end < rest_.size() && is_digit(rest_[end])) {
      ++end;
    }
    return end - at;
  }
  bool begins_with_digit() const { return !rest_.empty() && is_digit(rest_[0]); }

  ExactNumber signed_number(int depth) {
    skip_spaces();
    const bool is_negative = takes("-");
    if (!is_negative) {
      takes("+");
    }
    skip_spaces();
    ExactNumber number = magnitude(depth);
    if (is_negative) {
      number.value = -number.value;
    }
    return number;
  }

  // operand [/ operand], operand * 10^n, a mixed number
  ExactNumber magnitude(int depth) {
    const bool begins_literal = begins_with_digit();
    ExactNumber number = operand(depth);
    const bool is_integer = begins_literal && !number.is_fraction && number.significant_digits == 0;
    const bool has_space = rest_.starts_with(' ');
    skip_spaces();
    if (is_integer && (rest_.starts_with("\\frac") || (has_space && begins_with_digit()))) {
      number.value += fraction_part(depth);
      number.is_fraction = true;
    } else if (takes("/")) {
      if (has_space_groups_) {
        throw Beyond{"can be read as a mixed number or with spaces between thousands"};
      }
      skip_spaces();
      number = {.value = quotient(number.value, operand(depth).value), .is_fraction = true};
    } else if (takes("*")) {
      skip_spaces();
      if (!takes("10^")) {
        throw NotANumber();
      }
      scale(number, exponent(kMaxDecimalExponent));
    }
    return number;
  }

  // "3/4" or "\frac{3}{4}" behind an integer: less than 1, or it was no mixed number.
  mpq_class fraction_part(int depth) {
    mpq_class value;
    if (rest_.starts_with("\\frac")) {
      value = operand(depth).value;
    } else {
      const mpq_class numerator = digits_value(count_digits(0));
      if (!takes("/") || !begins_with_digit()) {
        throw NotANumber();
      }
      value = quotient(numerator, digits_value(count_digits(0)));
    }
    if (value < 0 || value >= 1) {
      throw NotANumber();
    }
    return value;
  }

  // {number}, (number), \frac or a literal, and what it is raised to.
  ExactNumber operand(int depth) {
    if (depth > kMaxDepth) {
      throw Beyond{concat("nested deeper than ", kMaxDepth)};
    }
    ExactNumber number;
    if (takes("{")) {
      number = group("}", depth);
    } else if (takes("(")) {
      number = group(")", depth);
    } else if (takes("\\frac")) {
      const mpq_class numerator = fraction_argument(depth);
      number = {.value = quotient(numerator, fraction_argument(depth)), .is_fraction = true};
    } else {
      number = literal();
    }
    if (takes("^")) {
      number = {.value = power(number.value, exponent(kMaxPowerBits)), .is_fraction = true};
    }
    return number;
  }

  ExactNumber group(std::string_view close, int depth) {
    ExactNumber number = signed_number(depth + 1);
    skip_spaces();
    if (!takes(close)) {
      throw NotANumber();
    }
    return number;
  }

  // In braces, or a single digit: \frac13
  mpq_class fraction_argument(int depth) {
    skip_spaces();
    if (takes("{")) {
      return group("}", depth).value;
    }
    return digits_value(std::min<std::size_t>(count_digits(0), 1));
  }

  mpq_class digits_value(std::size_t count) {
    if (count == 0) {
      throw NotANumber();
    }
    if (count > kMaxDigits) {
      throw Beyond{concat("a number of ", count, " digits, at most ", kMaxDigits, " are read")};
    }
    const mpq_class value(mpz_class(std::string(rest_.substr(0, count)), 10));
    rest_.remove_prefix(count);
    return value;
  }

  ExactNumber literal() {
    std::string digits = integer_digits();
    ExactNumber number;
    if (const std::size_t count = rest_.starts_with('.') ? count_digits(1) : 0; count > 0) {
      if (count > kMaxDigits) {
        throw Beyond{concat(count, " digits behind the point, at most ", kMaxDigits, " are read")};
      }
      digits += rest_.substr(1, count);
      number.num_decimals = static_cast<int>(count);
      rest_.remove_prefix(1 + count);
    }
    if (digits.empty()) {
      throw NotANumber();
    }
    const std::size_t leading = std::min(digits.find_first_not_of('0'), digits.size());
    if (digits.size() - leading > kMaxDigits || digits.size() > 2 * kMaxDigits) {
      throw Beyond{concat("a number of more than ", kMaxDigits, " digits")};
    }
    number.significant_digits =
        number.num_decimals > 0 ? static_cast<int>(digits.size() - leading) : 0;
    number.value = mpq_class(mpz_class(digits, 10), power_of_ten(number.num_decimals));
    number.value.canonicalize();
    if (takes("e") || takes("E")) {
      scale(number, exponent(kMaxDecimalExponent));
    }
    return number;
  }

  // Digits, with , or a space between groups of three; what is too long is cut off where the
  // caller sees that it is.
  std::string integer_digits() {
    std::size_t count = count_digits(0);
    std::string digits(rest_.substr(0, std::min(count, 2 * kMaxDigits + 1)));
    rest_.remove_prefix(count);
    if (count == 0 || count > 3 || rest_.empty() || (rest_[0] != ',' && rest_[0] != ' ')) {
      return digits;
    }
    const char separator = rest_[0];
    while (rest_.starts_with(separator) && count_digits(1) == 3) {
      if (digits.size() <= 2 * kMaxDigits) {
        digits += rest_.substr(1, 3);
      }
      rest_.remove_prefix(4);
      has_space_groups_ = has_space_groups_ || separator == ' ';
    }
    return digits;
  }

  // An integer, in braces or parentheses or bare, of at most `limit` in absolute value.
  std::int64_t exponent(std::int64_t limit) {
    const std::string_view close = takes("{") ? "}" : takes("(") ? ")" : "";
    skip_spaces();
    const bool is_negative = takes("-");
    if (!is_negative) {
      takes("+");
    }
    const std::size_t count = count_digits(0);
    if (count == 0) {
      throw NotANumber();
    }
    std::int64_t value = 0;
    const std::string_view digits = rest_.substr(0, count);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    // A tower is as far beyond as a long exponent.
    if (error != std::errc() || value > limit || rest_.substr(count).starts_with('^')) {
      throw Beyond{concat("an exponent beyond ", limit)};
    }
    rest_.remove_prefix(count);
    skip_spaces();
    if (!takes(close)) {
      throw NotANumber();
    }
    return is_negative ? -value : value;
  }

  static mpq_class power(const mpq_class& base, std::int64_t exponent) {
    const auto magnitude = static_cast<unsigned long>(std::abs(exponent));
    const std::size_t base_bits =
        std::max(mpz_sizeinbase(base.get_num_mpz_t(), 2), mpz_sizeinbase(base.get_den_mpz_t(), 2));
    if (base_bits * magnitude > static_cast<std::size_t>(kMaxPowerBits)) {
      throw Beyond{concat("a power of more than ", kMaxPowerBits, " bits")};
    }
    mpz_class numerator;
    mpz_class denominator;
    mpz_pow_ui(numerator.get_mpz_t(), base.get_num_mpz_t(), magnitude);
    mpz_pow_ui(denominator.get_mpz_t(), base.get_den_mpz_t(), magnitude);
    return exponent < 0 ? quotient(denominator, numerator) : quotient(numerator, denominator);
  }

  // With an exponent of ten a decimal's digits no longer say where it was rounded.
  static void scale(ExactNumber& number, std::int64_t exponent) {
    const mpq_class factor(power_of_ten(std::abs(exponent)));
    number.value =
        exponent < 0 ? mpq_class(number.value / factor) : mpq_class(number.value * factor);
    number.num_decimals = 0;
    number.significant_digits = 0;
  }

  std::string_view rest_;
  bool has_space_groups_ = false;
};

// What stands behind the last = when the first side is one letter; else all of it.
std::string_view last_side(std::string_view text) {
  const std::size_t first = text.find('=');
  const bool has_variable =
      first != std::string_view::npos && is_letter(text[0]) &&
      text.substr(1, first - 1).find_first_not_of(' ') == std::string_view::npos;
  return has_variable ? text.substr(text.rfind('=') + 1) : text;
}

}  // namespace

NumberReading read_number(std::string_view text) {
  if (text.empty()) {
    return {};
  }
  try {
    return {.number = Reader(last_side(text)).read(), .failure = ""};
  } catch (const NotANumber&) {
    return {};
  } catch (const Beyond& beyond) {
    return {.number = std::nullopt, .failure = beyond.what};
  }
}

}  // namespace fathom::rl
