#include <algorithm>
#include <cstdint>

#include "core/error.h"
#include "rl/problems/families.h"

namespace fathom::rl {
namespace {

// Positions of a + b that carry into the next one.
int count_carries(std::int64_t a, std::int64_t b) {
  int count = 0;
  for (std::int64_t carry = 0; a > 0 || b > 0; a /= 10, b /= 10) {
    carry = a % 10 + b % 10 + carry >= 10 ? 1 : 0;
    count += static_cast<int>(carry);
  }
  return count;
}

// Digit by digit from the right: "7 + 8 = 15, 4 + 3 + 1 = 8"; "12 - 7 = 5, 4 - 1 - 3 = 0".
std::string work_out(std::int64_t a, std::int64_t b, bool is_sum) {
  std::string text;
  for (std::int64_t carry = 0; a > 0 || b > 0; a /= 10, b /= 10) {
    const std::int64_t top = a % 10;
    const std::int64_t bottom = b % 10;
    text += text.empty() ? "" : ", ";
    if (is_sum) {
      const std::int64_t sum = top + bottom + carry;
      text += concat(top, " + ", bottom, carry > 0 ? " + 1" : "", " = ", sum);
      carry = sum / 10;
    } else {
      const std::int64_t lent = top - carry < bottom ? 10 : 0;
      text += concat(top + lent, carry > 0 ? " - 1" : "", " - ", bottom, " = ",
                     top + lent - carry - bottom);
      carry = lent / 10;
    }
  }
  return text;
}

}  // namespace

std::optional<Instance> draw_arithmetic(Draws& draws, int difficulty) {
  std::int64_t smallest = 1;
  for (int digit = 1; digit < difficulty; ++digit) {
    smallest *= 10;
  }
  const bool is_sum = difficulty == 1 || draws.between(0, 1) == 0;
  std::int64_t a = draws.between(smallest, 10 * smallest - 1);
  std::int64_t b = draws.between(smallest, 10 * smallest - 1);
  if (!is_sum && a < b) {
    std::swap(a, b);
  }
  // a - b borrows where (a - b) + b carries.
  const int num_carries = is_sum ? count_carries(a, b) : count_carries(a - b, b);
  if (num_carries < (difficulty + 1) / 2) {
    return std::nullopt;
  }
  const char sign = is_sum ? '+' : '-';
  return Instance{.canonical = concat(std::max(a, b), sign, std::min(a, b)),
                  .prompt = concat(a, ' ', sign, ' ', b, " =\n"),
                  .answer = concat(is_sum ? a + b : a - b),
                  .verifier = "number",
                  .thoughts = work_out(a, b, is_sum)};
}

}  // namespace fathom::rl
