#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "core/rng.h"

namespace fathom::testing {

// Random numbers one after another.
class Draws {
 public:
  Draws(std::uint64_t seed, std::string_view purpose) : random_(seed, purpose) {}

  std::int64_t between(std::int64_t first, std::int64_t last) {
    return first + static_cast<std::int64_t>(
                       random_.below(next_++, static_cast<std::uint64_t>(last - first + 1)));
  }
  bool one_in(std::int64_t n) { return between(1, n) == 1; }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[between(0, static_cast<std::int64_t>(choices.size()) - 1)];
  }

 private:
  RandomSource random_;
  std::uint64_t next_ = 0;
};

}  // namespace fathom::testing
