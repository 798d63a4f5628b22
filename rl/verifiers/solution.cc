#include "rl/verifiers/solution.h"

#include "rl/verifiers/expression.h"

namespace fathom::rl {
namespace {

constexpr std::size_t kMaxTerms = 64;  // of a side
constexpr int kMaxSides = 16;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// What stands behind "x ="; nothing when the text begins otherwise.
std::optional<std::string_view> behind_variable(std::string_view text) {
  const std::size_t equals = text.find('=');
  const bool has_variable =
      equals != std::string_view::npos && is_letter(text[0]) &&
      text.substr(1, equals - 1).find_first_not_of(' ') == std::string_view::npos;
  return has_variable ? std::optional(text.substr(equals + 1)) : std::nullopt;
}

mpq_class value_of(const ExactNumber& number) {
  return number.is_percent ? mpq_class(number.value / 100) : number.value;
}

std::optional<mpq_class> value_of_side(std::string_view side) {
  if (const auto tokens = read_expression(side, kMaxTerms)) {
    if (std::optional<mpq_class> value = evaluate(*tokens)) {
      return value;
    }
  }
  const NumberReading reading = read_number(side);
  return reading.number ? std::optional(value_of(*reading.number)) : std::nullopt;
}

}  // namespace

NumberReading read_solution(std::string_view text) {
  const std::optional<std::string_view> sides = behind_variable(text);
  if (!sides) {
    return read_number(text);
  }
  const std::size_t begin_last = sides->rfind('=') + 1;  // 0 for one side alone
  NumberReading reading = read_number(sides->substr(begin_last));
  if (!reading.number) {
    return reading;
  }
  const mpq_class value = value_of(*reading.number);
  std::string_view others = sides->substr(0, begin_last);
  for (int num_sides = 1; !others.empty(); ++num_sides) {
    const std::size_t end = others.find('=');
    if (num_sides == kMaxSides || value_of_side(others.substr(0, end)) != value) {
      return {};
    }
    others.remove_prefix(end + 1);
  }
  return reading;
}

}  // namespace fathom::rl
