#include "rl/verifiers/number_tuple.h"

#include <algorithm>
#include <utility>

#include "rl/verifiers/solution.h"

namespace fathom::rl {
namespace {

constexpr std::int64_t kMaxParts = 16;

bool is_in_brackets(std::string_view text) {
  return text.size() > 2 && (text.front() == '(' || text.front() == '[') &&
         (text.back() == ')' || text.back() == ']');
}

}  // namespace

NumberTupleReading read_number_tuple(std::string_view text) {
  NumberReading alone = read_solution(text);
  if (alone.number) {
    return {.tuple = NumberTuple{.brackets = "", .numbers = {std::move(*alone.number)}},
            .failure = ""};
  }
  const std::int64_t num_commas = std::ranges::count(text, ',');
  if (!is_in_brackets(text) || num_commas < 1 || num_commas >= kMaxParts) {
    return {.tuple = std::nullopt, .failure = std::move(alone.failure)};
  }
  NumberTuple tuple{.brackets = {text.front(), text.back()}, .numbers = {}};
  std::string_view rest = text.substr(1, text.size() - 2);
  for (std::int64_t part = 0; part <= num_commas; ++part) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    NumberReading reading = read_number(rest.substr(0, end));
    if (!reading.number) {
      return {.tuple = std::nullopt, .failure = std::move(reading.failure)};
    }
    tuple.numbers.push_back(std::move(*reading.number));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {.tuple = std::move(tuple), .failure = ""};
}

}  // namespace fathom::rl
