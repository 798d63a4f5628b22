#include "data/unicode_classes.h"

#include <map>

namespace fathom::data {
namespace {

constexpr std::uint32_t kNumCodePoints = 0x110000;
using Page = std::array<std::uint8_t, 256>;

bool is_continuation(char byte) noexcept {
  return (static_cast<std::uint8_t>(byte) & 0xc0) == 0x80;
}

}  // namespace

UnicodeClasses::UnicodeClasses() {
  const std::span<const std::uint32_t> runs = unicode_class_runs();
  std::map<Page, std::uint32_t> known_pages;  // most of the 4,352 pages are alike
  std::size_t run = 0;
  Page page{};
  for (std::uint32_t code_point = 0; code_point < kNumCodePoints; ++code_point) {
    if (run + 1 < runs.size() && runs[run + 1] / 8 == code_point) {
      ++run;
    }
    page[code_point & 255] = static_cast<std::uint8_t>(runs[run] % 8);
    if ((code_point & 255) == 255) {
      const auto [known, is_new] =
          known_pages.try_emplace(page, static_cast<std::uint32_t>(pages_.size()));
      if (is_new) {
        pages_.insert(pages_.end(), page.begin(), page.end());
      }
      page_of_[code_point >> 8] = known->second;
    }
  }
}

CodePoint UnicodeClasses::at_beyond_ascii(std::string_view text,
                                          std::size_t position) const noexcept {
  const auto first = static_cast<std::uint8_t>(text[position]);
  const CodePoint invalid{first, 1, UnicodeClass::kOther};
  const std::uint32_t num_bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || position + num_bytes > text.size()) {
    return invalid;
  }
  std::uint32_t value = first & (0xffU >> (num_bytes + 1));
  for (std::uint32_t i = 1; i < num_bytes; ++i) {
    const char byte = text[position + i];
    if (!is_continuation(byte)) {
      return invalid;
    }
    value = value << 6 | (static_cast<std::uint8_t>(byte) & 0x3fU);
  }
  // Overlong forms, surrogates and what lies above Unicode are not well-formed.
  constexpr std::array<std::uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kSmallest[num_bytes] || value >= kNumCodePoints ||
      (value >= 0xd800 && value < 0xe000)) {
    return invalid;
  }
  return {value, num_bytes, class_of(value)};
}

}  // namespace fathom::data
