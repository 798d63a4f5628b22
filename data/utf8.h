#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace fathom::data {

inline constexpr std::uint32_t kNumCodePoints = 0x110000;
// Value of a byte that begins no well-formed UTF-8 sequence.
inline constexpr std::uint32_t kInvalidCodePoint = kNumCodePoints;

// One code point of a UTF-8 text.
struct Utf8CodePoint {
  std::uint32_t value = kInvalidCodePoint;
  std::uint32_t num_bytes = 0;  // 0: past the end of the text
};

// The code point that begins at byte `position` of `text`, which may be past the end. A byte that
// begins no well-formed sequence (RFC 3629: no overlong forms, no surrogates) is taken alone, with
// the value kInvalidCodePoint.
Utf8CodePoint code_point_at(std::string_view text, std::size_t position) noexcept;

// The one that ends before byte `position` <= text.size(); num_bytes = 0 at the beginning.
Utf8CodePoint code_point_before(std::string_view text, std::size_t position) noexcept;

// Unicode's White_Space.
bool is_white_space(std::uint32_t code_point) noexcept;

// Appends the UTF-8 sequence of `code_point` < kNumCodePoints.
void append_utf8(std::uint32_t code_point, std::string& out);

}  // namespace fathom::data
