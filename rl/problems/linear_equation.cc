#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "rl/problems/families.h"

namespace fathom::rl {
namespace {

// slope * x + offset
struct Side {
  std::int64_t slope = 0;
  std::int64_t offset = 0;
  auto operator<=>(const Side&) const = default;
};

std::string to_text(const Side& side) {
  if (side.slope == 0) {
    return concat(side.offset);
  }
  const std::string slope = side.slope == 1 ? "" : side.slope == -1 ? "-" : concat(side.slope);
  const std::string offset = side.offset == 0  ? ""
                             : side.offset > 0 ? concat(" + ", side.offset)
                                               : concat(" - ", -side.offset);
  return concat(slope, "x", offset);
}

std::string to_text(std::int64_t numerator, std::int64_t denominator) {
  const std::int64_t divisor = std::gcd(numerator, denominator) * (denominator < 0 ? -1 : 1);
  numerator /= divisor;
  denominator /= divisor;
  return denominator == 1 ? concat(numerator) : concat(numerator, "/", denominator);
}

// "3x = 15, x = 15 / 3"
std::string work_out(std::int64_t slope, std::int64_t offset) {
  return concat(to_text({slope, 0}), " = ", offset, ", x = ", offset, " / ", slope);
}

}  // namespace

std::optional<Instance> draw_linear_equation(Draws& draws, int difficulty) {
  const bool has_integer_solution = difficulty < 3;
  const std::int64_t largest = has_integer_solution ? 9 : 20;
  Side left{draws.between(-largest, largest), draws.between(-largest, largest)};
  Side right{difficulty == 1 ? 0 : draws.between(-largest, largest), 0};
  const std::int64_t slope = left.slope - right.slope;
  if (left.slope == 0 || slope == 0 || (difficulty > 1 && right.slope == 0)) {
    return std::nullopt;
  }
  right.offset = has_integer_solution ? slope * draws.between(-largest, largest) + left.offset
                                      : draws.between(-largest, largest);
  const std::int64_t offset = right.offset - left.offset;
  if ((offset % slope == 0) != has_integer_solution || (slope == 1 && left.offset == 0)) {
    return std::nullopt;
  }
  const auto [first, second] = std::minmax(left, right);
  return Instance{
      .canonical = concat(first.slope, ' ', first.offset, ' ', second.slope, ' ', second.offset),
      .prompt = concat("Solve ", to_text(left), " = ", to_text(right), " for x.\n"),
      .answer = to_text(offset, slope),
      .verifier = "number",
      .thoughts = work_out(slope, offset)};
}

}  // namespace fathom::rl
