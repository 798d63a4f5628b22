#pragma once

#include <cstdint>
#include <string_view>

#include "core/rng.h"

namespace fathom {

// Random numbers one after another: a function of (seed, purpose) and of how many came before.
class Draws {
 public:
  Draws(std::uint64_t seed, std::string_view purpose) : source_(seed, purpose) {}

  // Evenly from minimum .. maximum, both included.
  std::int64_t between(std::int64_t minimum, std::int64_t maximum) {
    const auto count = static_cast<std::uint64_t>(maximum - minimum) + 1;
    return minimum + static_cast<std::int64_t>(source_.below(next_++, count));
  }

 private:
  RandomSource source_;
  std::uint64_t next_ = 0;
};

}  // namespace fathom
