#pragma once

#include <gmpxx.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace fathom::rl {

// One sign of an arithmetic expression: a number, or one of + - * / ( ).
struct ExpressionToken {
  char sign = '0';          // '0': a number
  std::int64_t number = 0;  // not negative
};

// The signs of `text`, which is normalized (normalize.h). Nothing when there is another sign in it,
// a number of more than 18 digits, more than `max_numbers` numbers, or more than 16 signs for each.
std::optional<std::vector<ExpressionToken>> read_expression(std::string_view text,
                                                            std::size_t max_numbers);

// The value with the usual precedence, operators of one level from left to right. Nothing when the
// tokens are no expression or a divisor is 0.
std::optional<mpq_class> evaluate(const std::vector<ExpressionToken>& tokens);

}  // namespace fathom::rl
