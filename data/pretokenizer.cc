#include "data/pretokenizer.h"

#include <array>
#include <limits>

namespace fathom::data {
namespace {

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();
constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_newline(std::uint32_t code_point) noexcept {
  return code_point == '\n' || code_point == '\r';
}

bool is_other(UnicodeClass unicode_class) noexcept {
  return unicode_class != UnicodeClass::kLetter && unicode_class != UnicodeClass::kNumber &&
         unicode_class != UnicodeClass::kSpace;
}

char lower(char letter) noexcept {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

enum class Case { kExact, kIgnored };

// Bytes of 's, 't, 're, 've, 'm, 'll or 'd at the start of `text`, which begins with an apostrophe;
// 0 if none.
std::size_t contraction_size(std::string_view text, Case letter_case) noexcept {
  constexpr std::array<std::string_view, 7> kEndings = {"s", "t", "re", "ve", "m", "ll", "d"};
  // Unicode folds the long s (U+017F) to s.
  constexpr std::string_view kLongS = "\xc5\xbf";
  if (letter_case == Case::kIgnored && text.substr(1).starts_with(kLongS)) {
    return 1 + kLongS.size();
  }
  for (const std::string_view ending : kEndings) {
    bool matches = text.size() > ending.size();
    for (std::size_t i = 0; matches && i < ending.size(); ++i) {
      const char letter = text[i + 1];
      matches = ending[i] == (letter_case == Case::kIgnored ? lower(letter) : letter);
    }
    if (matches) {
      return 1 + ending.size();
    }
  }
  return 0;
}

}  // namespace

std::string_view regex_of(SplitPattern pattern) noexcept {
  return pattern == SplitPattern::kGpt2 ? kGpt2Regex : kLlama3Regex;
}

std::optional<SplitPattern> pattern_of(std::string_view regex) noexcept {
  if (regex == kGpt2Regex) {
    return SplitPattern::kGpt2;
  }
  if (regex == kLlama3Regex) {
    return SplitPattern::kLlama3;
  }
  return std::nullopt;
}

std::size_t Pretokenizer::piece_end(std::string_view text, std::size_t begin) const noexcept {
  return pattern_ == SplitPattern::kGpt2 ? gpt2_piece_end(text, begin)
                                         : llama3_piece_end(text, begin);
}

std::size_t Pretokenizer::run_end(std::string_view text, std::size_t position, UnicodeClass wanted,
                                  std::size_t limit) const noexcept {
  for (std::size_t count = 0; count < limit; ++count) {
    const CodePoint next = classes_.at(text, position);
    if (next.num_bytes == 0 || next.unicode_class != wanted) {
      break;
    }
    position += next.num_bytes;
  }
  return position;
}

std::size_t Pretokenizer::other_run_end(std::string_view text,
                                        std::size_t position) const noexcept {
  for (;;) {
    const CodePoint next = classes_.at(text, position);
    if (next.num_bytes == 0 || !is_other(next.unicode_class)) {
      return position;
    }
    position += next.num_bytes;
  }
}

std::size_t Pretokenizer::space_piece_end(std::string_view text, std::size_t begin,
                                          Newlines newlines) const noexcept {
  std::size_t end = begin;
  std::size_t last_begin = begin;
  std::size_t after_newline = begin;
  for (;;) {
    const CodePoint next = classes_.at(text, end);
    if (next.num_bytes == 0 || next.unicode_class != UnicodeClass::kSpace) {
      break;
    }
    last_begin = end;
    end += next.num_bytes;
    if (is_newline(next.value)) {
      after_newline = end;
    }
  }
  // \s*[\r\n]+ gives back all behind the last newline of the run.
  if (newlines == Newlines::kEndAPiece && after_newline > begin) {
    return after_newline;
  }
  // \s+(?!\S) leaves the last one to the word that follows, unless it is the only one: that is what
  // \s+ is for.
  return end == text.size() || last_begin == begin ? end : last_begin;
}

std::size_t Pretokenizer::gpt2_piece_end(std::string_view text, std::size_t begin) const noexcept {
  CodePoint first = classes_.at(text, begin);
  if (first.value == '\'') {
    const std::size_t size = contraction_size(text.substr(begin), Case::kExact);
    if (size > 0) {
      return begin + size;
    }
  }
  std::size_t position = begin;
  if (first.value == ' ') {
    const CodePoint next = classes_.at(text, begin + 1);
    if (next.num_bytes > 0 && next.unicode_class != UnicodeClass::kSpace) {
      position = begin + 1;
      first = next;
    }
  }
  switch (first.unicode_class) {
    case UnicodeClass::kLetter:
    case UnicodeClass::kNumber:
      return run_end(text, position, first.unicode_class, kNoLimit);
    case UnicodeClass::kSpace:
      return space_piece_end(text, begin, Newlines::kAreSpace);
    default:
      return other_run_end(text, position);
  }
}

std::size_t Pretokenizer::llama3_piece_end(std::string_view text,
                                           std::size_t begin) const noexcept {
  const CodePoint first = classes_.at(text, begin);
  const std::size_t second_begin = begin + first.num_bytes;
  if (first.value == '\'') {
    const std::size_t size = contraction_size(text.substr(begin), Case::kIgnored);
    if (size > 0) {
      return begin + size;
    }
  }
  if (first.unicode_class == UnicodeClass::kLetter) {
    return run_end(text, second_begin, UnicodeClass::kLetter, kNoLimit);
  }
  if (first.unicode_class == UnicodeClass::kNumber) {
    return run_end(text, begin, UnicodeClass::kNumber, 3);
  }
  const CodePoint second = classes_.at(text, second_begin);
  if (second.num_bytes > 0 && second.unicode_class == UnicodeClass::kLetter &&
      !is_newline(first.value)) {
    return run_end(text, second_begin, UnicodeClass::kLetter, kNoLimit);
  }
  const bool has_leading_space =
      first.value == ' ' && second.num_bytes > 0 && is_other(second.unicode_class);
  if (has_leading_space || is_other(first.unicode_class)) {
    std::size_t end = other_run_end(text, has_leading_space ? second_begin : begin);
    while (end < text.size() && is_newline(static_cast<std::uint8_t>(text[end]))) {
      ++end;
    }
    return end;
  }
  return space_piece_end(text, begin, Newlines::kEndAPiece);
}

}  // namespace fathom::data
