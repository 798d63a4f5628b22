#pragma once

#include <cstdint>

namespace fathom {

// The least multiple of `multiple` > 0 that is at least `value` >= 0.
constexpr std::int64_t round_up(std::int64_t value, std::int64_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace fathom
