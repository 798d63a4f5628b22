#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/error.h"
#include "rl/problems/families.h"

namespace fathom::rl {
namespace {

constexpr std::int64_t kLargestNumber = 20;
constexpr std::int64_t kLargestTarget = 999;
constexpr std::int64_t kLargestResult = 1'000'000;  // on the way

enum class Binding { kSum, kProduct, kNumber };  // from loose to tight

struct Expression {
  std::int64_t value = 0;
  std::string text;
  Binding binding = Binding::kNumber;
  std::string steps = {};  // "3 * 5 = 15, 15 + 7 = 22"
};

// The operators that give a positive integer.
std::string possible_operators(std::int64_t a, std::int64_t b) {
  std::string operators = "+";
  if (a > b) {
    operators += '-';
  }
  if (a * b <= kLargestResult) {
    operators += '*';
  }
  if (a % b == 0) {
    operators += '/';
  }
  return operators;
}

std::int64_t apply(std::int64_t a, char operation, std::int64_t b) {
  switch (operation) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    default:
      return a / b;
  }
}

std::string within(const Expression& operand, bool needs_parentheses) {
  return needs_parentheses ? concat("(", operand.text, ")") : operand.text;
}

Expression combine(const Expression& a, char operation, const Expression& b) {
  const bool is_sum = operation == '+' || operation == '-';
  const Binding binding = is_sum ? Binding::kSum : Binding::kProduct;
  const bool is_one_sided = operation == '-' || operation == '/';
  const std::int64_t value = apply(a.value, operation, b.value);
  std::string steps = a.steps + (a.steps.empty() || b.steps.empty() ? "" : ", ") + b.steps;
  steps += concat(steps.empty() ? "" : ", ", a.value, ' ', operation, ' ', b.value, " = ", value);
  return {.value = value,
          .text = concat(within(a, a.binding < binding), ' ', operation, ' ',
                         within(b, b.binding < binding || (is_one_sided && b.binding == binding))),
          .binding = binding,
          .steps = std::move(steps)};
}

Expression take(std::vector<Expression>& from, Draws& draws) {
  const auto chosen = from.begin() + draws.between(0, static_cast<std::int64_t>(from.size()) - 1);
  Expression taken = std::move(*chosen);
  from.erase(chosen);
  return taken;
}

}  // namespace

std::optional<Instance> draw_countdown(Draws& draws, int difficulty) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(difficulty));
  std::vector<Expression> parts;
  std::string list;
  for (std::int64_t& number : numbers) {
    number = draws.between(1, kLargestNumber);
    parts.push_back({.value = number, .text = concat(number)});
    list += concat(list.empty() ? "" : ", ", number);
  }
  while (parts.size() > 1) {
    const Expression a = take(parts, draws);
    const Expression b = take(parts, draws);
    const std::string operators = possible_operators(a.value, b.value);
    const auto last = static_cast<std::int64_t>(operators.size()) - 1;
    parts.push_back(combine(a, operators[static_cast<std::size_t>(draws.between(0, last))], b));
  }
  const Expression& solution = parts.front();
  if (solution.value > kLargestTarget) {
    return std::nullopt;
  }
  std::sort(numbers.begin(), numbers.end());
  std::string canonical = concat(solution.value);
  for (const std::int64_t number : numbers) {
    canonical += concat(' ', number);
  }
  return Instance{
      .canonical = std::move(canonical),
      .prompt = concat("Use each of ", list, " once with + - * / to make ", solution.value, ".\n"),
      .answer = solution.text,
      .verifier = "countdown",
      .thoughts = solution.steps};
}

}  // namespace fathom::rl
