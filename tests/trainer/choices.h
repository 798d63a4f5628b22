#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "core/draws.h"

namespace fathom::testing {

// Draws of numbers, and choices by them.
class Choices : public Draws {
 public:
  using Draws::Draws;

  bool one_in(std::int64_t n) { return between(1, n) == 1; }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[between(0, static_cast<std::int64_t>(choices.size()) - 1)];
  }
};

}  // namespace fathom::testing
