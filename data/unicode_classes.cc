#include "data/unicode_classes.h"

#include <map>

namespace fathom::data {

UnicodeClasses::UnicodeClasses() {
  using Page = std::array<std::uint8_t, 256>;
  const std::span<const std::uint32_t> runs = unicode_class_runs();
  std::map<Page, std::uint32_t> known_pages;  // most of the 4,352 pages are alike
  const auto add_page = [&](std::size_t block, const Page& page) {
    const auto [known, is_new] =
        known_pages.try_emplace(page, static_cast<std::uint32_t>(pages_.size()));
    if (is_new) {
      pages_.insert(pages_.end(), page.begin(), page.end());
    }
    page_of_[block] = known->second;
  };
  std::size_t run = 0;
  Page page{};
  for (std::uint32_t code_point = 0; code_point < kNumCodePoints; ++code_point) {
    if (run + 1 < runs.size() && runs[run + 1] / 8 == code_point) {
      ++run;
    }
    page[code_point & 255] = static_cast<std::uint8_t>(runs[run] % 8);
    if ((code_point & 255) == 255) {
      add_page(code_point >> 8, page);
    }
  }
  add_page(kInvalidCodePoint >> 8, Page{});
}

}  // namespace fathom::data
