#include "rl/verifiers/expression.h"

#include <algorithm>
#include <charconv>

namespace fathom::rl {
namespace {

constexpr std::size_t kMaxDigits = 18;  // fits in int64
constexpr std::size_t kMaxSignsOfNumber = 16;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int precedence(char sign) { return sign == '+' || sign == '-' ? 1 : sign == '(' ? 0 : 2; }

// Dijkstra's shunting yard: operators wait on a stack for their right operand.
class Evaluator {
 public:
  std::optional<mpq_class> run(const std::vector<ExpressionToken>& tokens) {
    bool wants_operand = true;
    for (const ExpressionToken& token : tokens) {
      // A number or an opening parenthesis stands where an operand is wanted, all else after one.
      const bool begins_operand = token.sign == '0' || token.sign == '(';
      if (begins_operand != wants_operand || !take(token)) {
        return std::nullopt;
      }
      wants_operand = token.sign != '0' && token.sign != ')';
    }
    if (wants_operand || !reduce(1) || !signs_.empty()) {
      return std::nullopt;
    }
    return values_.back();
  }

 private:
  bool take(const ExpressionToken& token) {
    switch (token.sign) {
      case '0':
        values_.emplace_back(token.number);
        return true;
      case '(':
        signs_.push_back('(');
        return true;
      case ')':
        if (!reduce(1) || signs_.empty()) {
          return false;
        }
        signs_.pop_back();
        return true;
      default:
        if (!reduce(precedence(token.sign))) {
          return false;
        }
        signs_.push_back(token.sign);
        return true;
    }
  }

  // Carries out the operators on top of the stack that bind at least as tightly.
  bool reduce(int at_least) {
    while (!signs_.empty() && precedence(signs_.back()) >= at_least) {
      const mpq_class b = values_.back();
      values_.pop_back();
      mpq_class& a = values_.back();
      switch (signs_.back()) {
        case '+':
          a += b;
          break;
        case '-':
          a -= b;
          break;
        case '*':
          a *= b;
          break;
        default:
          if (b == 0) {
            return false;
          }
          a /= b;
      }
      signs_.pop_back();
    }
    return true;
  }

  std::vector<mpq_class> values_;
  std::vector<char> signs_;
};

}  // namespace

std::optional<std::vector<ExpressionToken>> read_expression(std::string_view text,
                                                            std::size_t max_numbers) {
  std::vector<ExpressionToken> tokens;
  std::size_t num_numbers = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == ' ') {
      ++at;
      continue;
    }
    ExpressionToken token;
    std::size_t end = at + 1;
    if (is_digit(text[at])) {
      end = static_cast<std::size_t>(std::find_if_not(text.begin() + at, text.end(), is_digit) -
                                     text.begin());
      if (end - at > kMaxDigits || ++num_numbers > max_numbers) {
        return std::nullopt;
      }
      std::from_chars(text.data() + at, text.data() + end, token.number);
    } else if (std::string_view("+-*/()").find(text[at]) != std::string_view::npos) {
      token.sign = text[at];
    } else {
      return std::nullopt;
    }
    if (tokens.size() == kMaxSignsOfNumber * max_numbers) {
      return std::nullopt;
    }
    tokens.push_back(token);
    at = end;
  }
  return tokens;
}

std::optional<mpq_class> evaluate(const std::vector<ExpressionToken>& tokens) {
  return Evaluator().run(tokens);
}

}  // namespace fathom::rl
