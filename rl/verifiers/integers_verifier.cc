#include "rl/verifiers/integers_verifier.h"

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "rl/verifiers/normalize.h"

namespace fathom::rl {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::string_view without_brackets(std::string_view text) {
  const auto is_pair = [&](char open, char close) {
    return text.size() >= 2 && text.front() == open && text.back() == close;
  };
  return is_pair('[', ']') || is_pair('(', ')') || is_pair('{', '}')
             ? text.substr(1, text.size() - 2)
             : text;
}

// The next integer of `text`, which is cut off; empty when there is none at its front.
std::string take_integer(std::string_view& text) {
  std::size_t at = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  const bool is_negative = at == 1 && text[0] == '-';
  const std::size_t digits = at;
  while (at < text.size() && is_digit(text[at])) {
    ++at;
  }
  if (at == digits) {
    return "";
  }
  std::string_view magnitude = text.substr(digits, at - digits);
  magnitude.remove_prefix(std::min(magnitude.find_first_not_of('0'), magnitude.size() - 1));
  text.remove_prefix(at);
  return concat(is_negative && magnitude != "0" ? "-" : "", magnitude);
}

// At most `limit` + 1 integers: more than a list that could be right holds.
std::optional<std::vector<std::string>> read_list(std::string_view answer, std::size_t limit) {
  const std::string normalized = normalize(answer);
  std::string_view text = without_brackets(normalized);
  std::vector<std::string> integers;
  while (integers.size() <= limit) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    if (text.empty()) {
      return integers;
    }
    std::string integer = take_integer(text);
    if (integer.empty()) {
      return std::nullopt;
    }
    integers.push_back(std::move(integer));
    const std::size_t spaces = std::min(text.find_first_not_of(' '), text.size());
    text.remove_prefix(spaces);
    if (!text.empty() && (text[0] == ',' || text[0] == ';')) {
      text.remove_prefix(1);
    } else if (!text.empty() && spaces == 0) {
      return std::nullopt;
    }
  }
  return integers;
}

}  // namespace

IntegersVerifier::IntegersVerifier(std::string_view answer) {
  std::optional<std::vector<std::string>> integers = read_list(answer, answer.size());
  if (!integers || integers->empty()) {
    throw ConfigError(concat("the answer \"", answer, "\" is no list of integers"));
  }
  integers_ = std::move(*integers);
}

Verification IntegersVerifier::verify(std::string_view answer) const {
  const std::optional<std::vector<std::string>> integers = read_list(answer, integers_.size());
  if (!integers) {
    return {Verdict::kWrong, "not a list of integers"};
  }
  return *integers == integers_ ? Verification{Verdict::kCorrect, "same integers"}
                                : Verification{Verdict::kWrong, "other integers"};
}

}  // namespace fathom::rl
