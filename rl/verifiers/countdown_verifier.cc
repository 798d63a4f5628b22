#include "rl/verifiers/countdown_verifier.h"

#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "rl/verifiers/expression.h"
#include "rl/verifiers/normalize.h"

namespace fathom::rl {
namespace {

using Counts = std::map<std::int64_t, int>;

constexpr std::size_t kMaxNumbers = 64;  // bounds the size of a result

Counts count_numbers(const std::vector<ExpressionToken>& tokens) {
  Counts counts;
  for (const ExpressionToken& token : tokens) {
    if (token.sign == '0') {
      ++counts[token.number];
    }
  }
  return counts;
}

Counts numbers_in(std::string_view answer) {
  const auto tokens = read_expression(normalize(answer), kMaxNumbers);
  return tokens ? count_numbers(*tokens) : Counts();
}

Counts read_list(std::string_view list) {
  std::string spaced(list);
  for (char& c : spaced) {
    c = c == ',' ? ' ' : c;
  }
  const auto tokens = read_expression(spaced, kMaxNumbers);
  const Counts counts = tokens ? count_numbers(*tokens) : Counts();
  std::size_t num_numbers = 0;
  for (const auto& [number, count] : counts) {
    num_numbers += static_cast<std::size_t>(count);
  }
  if (!tokens || tokens->empty() || num_numbers != tokens->size()) {
    throw ConfigError(concat("verifier countdown: \"", list,
                             "\" is no list of 1 to 64 numbers, as in countdown:3,5,7"));
  }
  return counts;
}

bool is_within(const Counts& used, const Counts& allowed) {
  for (const auto& [number, count] : used) {
    const auto found = allowed.find(number);
    if (found == allowed.end() || count > found->second) {
      return false;
    }
  }
  return true;
}

}  // namespace

CountdownVerifier::CountdownVerifier(std::string_view answer)
    : CountdownVerifier(answer, numbers_in(answer), true) {}

CountdownVerifier::CountdownVerifier(std::string_view answer, std::string_view at_most_once)
    : CountdownVerifier(answer, read_list(at_most_once), false) {}

CountdownVerifier::CountdownVerifier(std::string_view answer, Counts numbers, bool must_use_all)
    : numbers_(std::move(numbers)), must_use_all_(must_use_all) {
  const auto tokens = read_expression(normalize(answer), kMaxNumbers);
  const std::optional<mpq_class> value = tokens ? evaluate(*tokens) : std::nullopt;
  if (!value || !is_within(count_numbers(*tokens), numbers_)) {
    throw ConfigError(concat("the answer \"", answer,
                             "\" is no expression of + - * / ( ) over the ",
                             "numbers to use, as in (3 + 5) * 7"));
  }
  target_ = *value;
}

Verification CountdownVerifier::verify(std::string_view answer) const {
  const std::string normalized = normalize(answer);
  const std::string_view text = normalized;
  const std::size_t equals = text.find('=');
  const auto tokens = read_expression(text.substr(0, equals), kMaxNumbers);
  if (!tokens) {
    return {Verdict::kWrong, "not an expression of + - * / ( ) and numbers"};
  }
  const Counts used = count_numbers(*tokens);
  if (!is_within(used, numbers_) || (must_use_all_ && used != numbers_)) {
    return {Verdict::kWrong, "other numbers than asked for"};
  }
  const std::optional<mpq_class> value = evaluate(*tokens);
  if (!value) {
    return {Verdict::kWrong, "no value"};
  }
  if (equals != std::string_view::npos) {
    const auto claimed = read_expression(text.substr(equals + 1), 1);
    if (!claimed || evaluate(*claimed) != value) {
      return {Verdict::kWrong, "not the value after ="};
    }
  }
  return *value == target_ ? Verification{Verdict::kCorrect, "same value"}
                           : Verification{Verdict::kWrong, "other value"};
}

}  // namespace fathom::rl
