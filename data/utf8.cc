#include "data/utf8.h"

#include <algorithm>
#include <array>

namespace fathom::data {
namespace {

// Overlong forms, surrogates and what lies above Unicode are not well-formed.
bool is_well_formed(std::uint32_t value, std::uint32_t num_bytes) noexcept {
  constexpr std::array<std::uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  return value >= kSmallest[num_bytes] && value < kNumCodePoints &&
         (value < 0xd800 || value >= 0xe000);
}

}  // namespace

Utf8CodePoint code_point_at(std::string_view text, std::size_t position) noexcept {
  if (position >= text.size()) {
    return {};
  }
  const auto first = static_cast<std::uint8_t>(text[position]);
  if (first < 0x80) {
    return {first, 1};
  }
  constexpr Utf8CodePoint kInvalid{kInvalidCodePoint, 1};
  const std::uint32_t num_bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || num_bytes > text.size() - position) {
    return kInvalid;
  }
  std::uint32_t value = first & (0xffU >> (num_bytes + 1));
  for (std::uint32_t i = 1; i < num_bytes; ++i) {
    const auto byte = static_cast<std::uint8_t>(text[position + i]);
    if ((byte & 0xc0) != 0x80) {
      return kInvalid;
    }
    value = value << 6 | (byte & 0x3fU);
  }
  return is_well_formed(value, num_bytes) ? Utf8CodePoint{value, num_bytes} : kInvalid;
}

Utf8CodePoint code_point_before(std::string_view text, std::size_t position) noexcept {
  for (std::size_t num_bytes = std::min<std::size_t>(4, position); num_bytes > 1; --num_bytes) {
    const Utf8CodePoint found = code_point_at(text, position - num_bytes);
    if (found.num_bytes == num_bytes) {
      return found;
    }
  }
  return position == 0 ? Utf8CodePoint{} : code_point_at(text.substr(0, position), position - 1);
}

bool is_white_space(std::uint32_t code_point) noexcept {
  constexpr std::array<std::uint32_t, 9> kAlone = {0x20,   0x85,   0xa0,   0x1680, 0x2028,
                                                   0x2029, 0x202f, 0x205f, 0x3000};
  return (code_point >= 0x09 && code_point <= 0x0d) ||
         (code_point >= 0x2000 && code_point <= 0x200a) ||
         std::find(kAlone.begin(), kAlone.end(), code_point) != kAlone.end();
}

void append_utf8(std::uint32_t code_point, std::string& out) {
  const auto push = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    push(code_point);
    return;
  }
  if (code_point < 0x800) {
    push(0xc0 | code_point >> 6);
  } else if (code_point < 0x10000) {
    push(0xe0 | code_point >> 12);
    push(0x80 | (code_point >> 6 & 0x3f));
  } else {
    push(0xf0 | code_point >> 18);
    push(0x80 | (code_point >> 12 & 0x3f));
    push(0x80 | (code_point >> 6 & 0x3f));
  }
  push(0x80 | (code_point & 0x3f));
}

}  // namespace fathom::data
