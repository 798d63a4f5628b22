#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/error.h"
#include "rl/problems/families.h"

namespace fathom::rl {
namespace {

std::string join(const std::vector<std::int64_t>& digits) {
  std::string text;
  for (const std::int64_t digit : digits) {
    text += concat(text.empty() ? "" : " ", digit);
  }
  return text;
}

// How often each digit comes: "1 once, 2 once, 7 twice, 8 3 times".
std::string count(const std::vector<std::int64_t>& sorted) {
  std::string text;
  for (auto begin = sorted.begin(); begin != sorted.end();) {
    const auto end = std::upper_bound(begin, sorted.end(), *begin);
    const auto times = end - begin;
    text += concat(text.empty() ? "" : ", ", *begin, ' ',
                   times == 1   ? std::string("once")
                   : times == 2 ? std::string("twice")
                                : concat(times, " times"));
    begin = end;
  }
  return text;
}

}  // namespace

std::optional<Instance> draw_sorting(Draws& draws, int difficulty) {
  std::vector<std::int64_t> digits(static_cast<std::size_t>(difficulty));
  for (std::int64_t& digit : digits) {
    digit = draws.between(0, 9);
  }
  std::string prompt = concat("Sort ", join(digits), ".\n");
  std::sort(digits.begin(), digits.end());
  std::string answer = join(digits);
  return Instance{.canonical = answer,
                  .prompt = std::move(prompt),
                  .answer = answer,
                  .verifier = "integers",
                  .thoughts = count(digits)};
}

}  // namespace fathom::rl
