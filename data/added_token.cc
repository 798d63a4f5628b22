#include "data/added_token.h"

#include <utf8proc.h>

#include <utility>

#include "data/utf8.h"

namespace fathom::data {
namespace {

// \w of the regular expressions of Rust: Alphabetic, marks, decimal digits, connectors and joiners.
bool is_word_character(std::uint32_t code_point) {
  if (code_point >= kNumCodePoints) {
    return false;
  }
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    case UTF8PROC_CATEGORY_SO:  // letters in circles and squares
      return (code_point >= 0x24b6 && code_point <= 0x24e9) ||
             (code_point >= 0x1f130 && code_point <= 0x1f149) ||
             (code_point >= 0x1f150 && code_point <= 0x1f169) ||
             (code_point >= 0x1f170 && code_point <= 0x1f189);
    default:
      return code_point == 0x200c || code_point == 0x200d;
  }
}

// Where the white space begins that ends at `end`, no further left than `limit`.
std::size_t space_begin(std::string_view text, std::size_t limit, std::size_t end) {
  while (end > limit) {
    const Utf8CodePoint before = code_point_before(text, end);
    if (!is_white_space(before.value)) {
      break;
    }
    end -= before.num_bytes;
  }
  return end;
}

std::size_t space_end(std::string_view text, std::size_t begin) {
  for (;;) {
    const Utf8CodePoint next = code_point_at(text, begin);
    if (!is_white_space(next.value)) {
      return begin;
    }
    begin += next.num_bytes;
  }
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    trie_.add(tokens_[i].text, static_cast<std::int32_t>(i));
    first_bytes_[static_cast<std::uint8_t>(tokens_[i].text[0])] = true;
  }
}

bool AddedTokenFinder::stands_alone(std::string_view text, std::size_t begin,
                                    std::size_t end) const {
  return !is_word_character(code_point_before(text, begin).value) &&
         !is_word_character(code_point_at(text, end).value);
}

std::vector<AddedTokenFinder::Section> AddedTokenFinder::sections(std::string_view text) const {
  std::vector<Section> sections;
  std::size_t done = 0;
  const auto add = [&](std::size_t end, std::int32_t token) {
    if (end > done) {
      sections.push_back({text.substr(done, end - done), token});
      done = end;
    }
  };
  for (std::size_t position = 0; position < text.size() && !tokens_.empty();) {
    if (!first_bytes_[static_cast<std::uint8_t>(text[position])]) {
      ++position;
      continue;
    }
    const TokenTrie::Match match = trie_.longest_match(text, position);
    if (match.size == 0) {
      ++position;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(match.token)];
    const std::size_t begin = position;
    position += match.size;  // where the next one may begin, though this one takes white space on
    if (token.single_word && !stands_alone(text, begin, position)) {
      continue;
    }
    add(token.takes_left_space ? space_begin(text, done, begin) : begin, -1);
    add(token.takes_right_space ? space_end(text, position) : position, token.id);
  }
  add(text.size(), -1);
  return sections;
}

}  // namespace fathom::data
