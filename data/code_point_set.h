#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "data/utf8.h"

namespace fathom::data {

// A set of code points; membership by two table look-ups.
class CodePointSet {
 public:
  // first <= last < kNumCodePoints.
  void add(std::uint32_t first, std::uint32_t last);
  // `code_point` may be kInvalidCodePoint, which is in no set.
  bool contains(std::uint32_t code_point) const noexcept {
    const std::uint32_t low = code_point & 255;
    return (pages_[page_of_[code_point >> 8]][low >> 6] >> (low & 63) & 1) != 0;
  }
  // For each byte whether the UTF-8 sequence of a member begins with it.
  std::array<bool, 256> first_bytes() const;

 private:
  using Page = std::array<std::uint64_t, 4>;

  std::array<std::uint16_t, (kInvalidCodePoint >> 8) + 1> page_of_{};
  std::vector<Page> pages_ = std::vector<Page>(1);  // the first stays empty
};

}  // namespace fathom::data
