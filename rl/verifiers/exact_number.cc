#include "rl/verifiers/exact_number.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "rl/verifiers/unit.h"

namespace fathom::rl {
namespace {

constexpr std::size_t kMaxDigits = 4096;
constexpr std::int64_t kMaxDecimalExponent = 4096;
constexpr std::int64_t kMaxExponent = 65536;
constexpr std::size_t kMaxBits = 1 << 18;
constexpr int kMaxDepth = 16;
constexpr std::size_t kMaxSuffix = 64;  // bytes of a unit

// How reading ends early; never leaves this file.
struct NotANumber {};
struct Beyond {
  std::string what;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

mpz_class power_of_ten(std::int64_t exponent) {
  mpz_class result;
  mpz_ui_pow_ui(result.get_mpz_t(), 10, static_cast<unsigned long>(exponent));
  return result;
}

std::size_t num_bits(const mpq_class& value) {
  return mpz_sizeinbase(value.get_num_mpz_t(), 2) + mpz_sizeinbase(value.get_den_mpz_t(), 2);
}

mpz_class exact_root(const mpz_class& square) {
  if (square < 0 || mpz_perfect_square_p(square.get_mpz_t()) == 0) {
    throw NotANumber();
  }
  return sqrt(square);
}

std::string without_braces(std::string_view text) {
  std::string bare;
  for (const char c : text) {
    if (c != '{' && c != '}') {
      bare += c;
    }
  }
  return bare;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  ExactNumber read() {
    ExactNumber number = signed_number(0);
    skip_spaces();
    suffix(number);
    return number;
  }

 private:
  // A value on the way is paid for in bits. As each is used once, this bounds time and memory,
  // however many there are and however they are nested.
  void spend(std::size_t bits) {
    if (bits > bits_left_) {
      throw Beyond{concat("numbers of more than ", kMaxBits, " bits together")};
    }
    bits_left_ -= bits;
  }
  mpq_class paid(mpq_class value) {
    spend(num_bits(value));
    return value;
  }

  // A percent sign or a unit behind the number, in \text{...} or without.
  void suffix(ExactNumber& number) const {
    if (rest_.empty()) {
      return;
    }
    if (rest_.size() > kMaxSuffix) {
      throw NotANumber();
    }
    const std::string text = without_braces(rest_);
    number.is_percent = is_percent_sign(text);
    number.has_unit = is_unit(text, rest_.starts_with('{'));
    if (!number.is_percent && !number.has_unit) {
      throw NotANumber();
    }
  }

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
      number.value = paid(number.value + fraction_part(depth));
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

  // {number}, (number), \frac, \sqrt or a literal, and what it is raised to.
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
      const mpq_class numerator = argument(depth);
      number = {.value = quotient(numerator, argument(depth)), .is_fraction = true};
    } else if (takes("\\sqrt")) {
      number = {.value = root(argument(depth)), .is_fraction = true};
    } else {
      number = literal();
    }
    if (takes("^")) {
      number = {.value = power(number.value, exponent(kMaxExponent)), .is_fraction = true};
    }
    return number;
  }

  ExactNumber group(std::string_view close, int depth) {
    const std::string_view begin = rest_;
    ExactNumber number = signed_number(depth + 1);
    skip_spaces();
    const std::string_view inside = begin.substr(0, begin.size() - rest_.size());
    const bool is_pair = close == ")" && inside.find(',') != std::string_view::npos;  // (1,234)
    if (is_pair || !takes(close)) {
      throw NotANumber();
    }
    return number;
  }

  // Of \frac and \sqrt: in braces, or a single digit, \frac13
  mpq_class argument(int depth) {
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
    return paid(value);
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
    spend(num_bits(number.value));
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

  mpq_class quotient(const mpq_class& numerator, const mpq_class& denominator) {
    if (denominator == 0) {
      throw NotANumber();
    }
    return paid(numerator / denominator);
  }

  mpq_class power(const mpq_class& base, std::int64_t exponent) {
    const auto magnitude = static_cast<unsigned long>(std::abs(exponent));
    spend(num_bits(base) * magnitude);  // before it is computed
    mpz_class numerator;
    mpz_class denominator;
    mpz_pow_ui(numerator.get_mpz_t(), base.get_num_mpz_t(), magnitude);
    mpz_pow_ui(denominator.get_mpz_t(), base.get_den_mpz_t(), magnitude);
    return exponent < 0 ? quotient(denominator, numerator) : quotient(numerator, denominator);
  }

  mpq_class root(const mpq_class& square) {
    return paid(mpq_class(exact_root(square.get_num()), exact_root(square.get_den())));
  }

  // With an exponent of ten a decimal's digits no longer say where it was rounded.
  void scale(ExactNumber& number, std::int64_t exponent) {
    const mpq_class factor = paid(power_of_ten(std::abs(exponent)));
    number.value = exponent < 0 ? quotient(number.value, factor) : paid(number.value * factor);
    number.num_decimals = 0;
    number.significant_digits = 0;
  }

  std::string_view rest_;
  std::size_t bits_left_ = kMaxBits;
  bool has_space_groups_ = false;
};

}  // namespace

NumberReading read_number(std::string_view text) {
  if (text.empty()) {
    return {};
  }
  try {
    return {.number = Reader(text).read(), .failure = ""};
  } catch (const NotANumber&) {
    return {};
  } catch (const Beyond& beyond) {
    return {.number = std::nullopt, .failure = beyond.what};
  }
}

}  // namespace fathom::rl
