#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/utf8.h"

namespace fathom::data {

// General category of a code point, as far as the split patterns ask: \p{L}, \p{N}, \p{M}, \p{P},
// \p{S} and \s (White_Space). The order is that of scripts/make_unicode_classes.py.
enum class UnicodeClass : std::uint8_t {
  kOther,
  kLetter,
  kNumber,
  kMark,
  kPunctuation,
  kSymbol,
  kSpace
};

// All code points as runs of one class, ascending: entry = 8 * first code point + class.
// Unicode 16.
std::span<const std::uint32_t> unicode_class_runs() noexcept;

// One code point of a UTF-8 text with its class. A byte that begins no well-formed sequence is a
// code point of its own, of class kOther.
struct CodePoint {
  std::uint32_t value = kInvalidCodePoint;
  std::uint32_t num_bytes = 0;  // 0: past the end of the text
  UnicodeClass unicode_class = UnicodeClass::kOther;
};

// Class of each code point by two table look-ups. Immutable: may be shared by threads.
class UnicodeClasses {
 public:
  UnicodeClasses();

  // `code_point` may be kInvalidCodePoint.
  UnicodeClass class_of(std::uint32_t code_point) const noexcept {
    return static_cast<UnicodeClass>(pages_[page_of_[code_point >> 8] + (code_point & 255)]);
  }
  // The code point that begins at byte `position` of `text`; num_bytes = 0 if position >=
  // text.size().
  CodePoint at(std::string_view text, std::size_t position) const noexcept {
    if (position < text.size()) {
      const auto byte = static_cast<std::uint8_t>(text[position]);
      if (byte < 0x80) {
        return {byte, 1, static_cast<UnicodeClass>(pages_[byte])};  // the first page is the first
      }
    }
    const Utf8CodePoint found = code_point_at(text, position);
    return {found.value, found.num_bytes, class_of(found.value)};
  }

 private:
  // Start in pages_ of each block of 256 code points; the last is that of kInvalidCodePoint.
  std::array<std::uint32_t, (kInvalidCodePoint >> 8) + 1> page_of_{};
  std::vector<std::uint8_t> pages_;
};

}  // namespace fathom::data
