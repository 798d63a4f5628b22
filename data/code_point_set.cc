#include "data/code_point_set.h"

#include <string>

namespace fathom::data {

void CodePointSet::add(std::uint32_t first, std::uint32_t last) {
  for (std::uint32_t code_point = first; code_point <= last; ++code_point) {
    std::uint16_t& page = page_of_[code_point >> 8];
    if (page == 0) {
      page = static_cast<std::uint16_t>(pages_.size());
      pages_.emplace_back();
    }
    const std::uint32_t low = code_point & 255;
    pages_[page][low >> 6] |= std::uint64_t{1} << (low & 63);
  }
}

std::array<bool, 256> CodePointSet::first_bytes() const {
  std::array<bool, 256> found{};
  for (std::uint32_t code_point = 0; code_point < kNumCodePoints; ++code_point) {
    if (contains(code_point)) {
      std::string bytes;
      append_utf8(code_point, bytes);
      found[static_cast<std::uint8_t>(bytes[0])] = true;
    }
  }
  return found;
}

}  // namespace fathom::data
