#include "data/word_patterns.h"

#include <array>
#include <limits>
#include <utility>

namespace fathom::data {
namespace {

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

// Sets of classes as bits.
constexpr unsigned bit(UnicodeClass unicode_class) noexcept {
  return 1U << static_cast<unsigned>(unicode_class);
}
constexpr unsigned kLetter = bit(UnicodeClass::kLetter);
constexpr unsigned kNumber = bit(UnicodeClass::kNumber);
constexpr unsigned kSpace = bit(UnicodeClass::kSpace);
constexpr unsigned kLetterOrMark = kLetter | bit(UnicodeClass::kMark);
constexpr unsigned kPunctuationOrSymbol =
    bit(UnicodeClass::kPunctuation) | bit(UnicodeClass::kSymbol);
constexpr unsigned kNoWord = ~(kLetter | kNumber | kSpace);  // [^\s\p{L}\p{N}]

bool is_in(const CodePoint& code_point, unsigned wanted) noexcept {
  return code_point.num_bytes > 0 && (bit(code_point.unicode_class) & wanted) != 0;
}

bool is_newline(std::uint32_t code_point) noexcept {
  return code_point == '\n' || code_point == '\r';
}

bool is_ascii_letter(std::uint32_t code_point) noexcept {
  return (code_point >= 'A' && code_point <= 'Z') || (code_point >= 'a' && code_point <= 'z');
}

bool is_ascii_punctuation(std::uint32_t code_point) noexcept {
  return code_point > ' ' && code_point < 0x7f && !is_ascii_letter(code_point) &&
         !(code_point >= '0' && code_point <= '9');
}

char lower(char letter) noexcept {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

// The end of the run of the wanted classes at `position`, of at most `limit` code points.
std::size_t run_end(const UnicodeClasses& classes, std::string_view text, std::size_t position,
                    unsigned wanted, std::size_t limit = kNoLimit) noexcept {
  for (std::size_t count = 0; count < limit; ++count) {
    const CodePoint next = classes.at(text, position);
    if (!is_in(next, wanted)) {
      break;
    }
    position += next.num_bytes;
  }
  return position;
}

std::size_t newlines_end(std::string_view text, std::size_t position) noexcept {
  while (position < text.size() && is_newline(static_cast<std::uint8_t>(text[position]))) {
    ++position;
  }
  return position;
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

// The match of \s+(?!\S)|\s+ at white space, or of \s*[\r\n]+ first where newlines end a piece.
enum class Newlines { kEndAPiece, kAreSpace };
std::size_t space_piece_end(const UnicodeClasses& classes, std::string_view text, std::size_t begin,
                            Newlines newlines) noexcept {
  std::size_t end = begin;
  std::size_t last_begin = begin;
  std::size_t after_newline = begin;
  for (;;) {
    const CodePoint next = classes.at(text, end);
    if (!is_in(next, kSpace)) {
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

// The functions below: the end of the match at `begin`; `begin` if there is none.

std::size_t gpt2_word_end(const UnicodeClasses& classes, std::string_view text,
                          std::size_t begin) noexcept {
  CodePoint first = classes.at(text, begin);
  if (first.value == '\'') {
    const std::size_t size = contraction_size(text.substr(begin), Case::kExact);
    if (size > 0) {
      return begin + size;
    }
  }
  std::size_t position = begin;
  if (first.value == ' ') {
    const CodePoint next = classes.at(text, begin + 1);
    if (is_in(next, ~kSpace)) {
      position = begin + 1;
      first = next;
    }
  }
  switch (first.unicode_class) {
    case UnicodeClass::kLetter:
    case UnicodeClass::kNumber:
      return run_end(classes, text, position, bit(first.unicode_class));
    case UnicodeClass::kSpace:
      return space_piece_end(classes, text, begin, Newlines::kAreSpace);
    default:
      return run_end(classes, text, position, kNoWord);
  }
}

// Llama-3's with kMaxDigits = 3, Qwen2's with 1.
template <std::size_t kMaxDigits>
std::size_t llama3_word_end(const UnicodeClasses& classes, std::string_view text,
                            std::size_t begin) noexcept {
  const CodePoint first = classes.at(text, begin);
  const std::size_t second_begin = begin + first.num_bytes;
  if (first.value == '\'') {
    const std::size_t size = contraction_size(text.substr(begin), Case::kIgnored);
    if (size > 0) {
      return begin + size;
    }
  }
  if (is_in(first, kLetter)) {
    return run_end(classes, text, second_begin, kLetter);
  }
  if (is_in(first, kNumber)) {
    return run_end(classes, text, begin, kNumber, kMaxDigits);
  }
  const CodePoint second = classes.at(text, second_begin);
  if (is_in(second, kLetter) && !is_newline(first.value)) {
    return run_end(classes, text, second_begin, kLetter);
  }
  const bool has_leading_space = first.value == ' ' && is_in(second, kNoWord);
  if (has_leading_space || is_in(first, kNoWord)) {
    return newlines_end(text,
                        run_end(classes, text, has_leading_space ? second_begin : begin, kNoWord));
  }
  return space_piece_end(classes, text, begin, Newlines::kEndAPiece);
}

std::size_t deepseek_v3_word_end(const UnicodeClasses& classes, std::string_view text,
                                 std::size_t begin) noexcept {
  const CodePoint first = classes.at(text, begin);
  const std::size_t second_begin = begin + first.num_bytes;
  if (is_in(first, kLetterOrMark)) {
    return run_end(classes, text, second_begin, kLetterOrMark);
  }
  const CodePoint second = classes.at(text, second_begin);
  if (is_ascii_punctuation(first.value) && is_ascii_letter(second.value)) {
    std::size_t end = second_begin;
    while (end < text.size() && is_ascii_letter(static_cast<std::uint8_t>(text[end]))) {
      ++end;
    }
    return end;
  }
  if (is_in(second, kLetterOrMark) && !is_newline(first.value) &&
      !is_in(first, kPunctuationOrSymbol)) {
    return run_end(classes, text, second_begin, kLetterOrMark);
  }
  const bool has_leading_space = first.value == ' ' && is_in(second, kPunctuationOrSymbol);
  if (has_leading_space || is_in(first, kPunctuationOrSymbol)) {
    return newlines_end(text, run_end(classes, text, has_leading_space ? second_begin : begin,
                                      kPunctuationOrSymbol));
  }
  return is_in(first, kSpace) ? space_piece_end(classes, text, begin, Newlines::kEndAPiece) : begin;
}

using WordEnd = std::size_t (*)(const UnicodeClasses&, std::string_view, std::size_t) noexcept;

template <WordEnd kWordEnd>
class WordPattern final : public SplitPattern {
 public:
  explicit WordPattern(std::shared_ptr<const UnicodeClasses> classes)
      : classes_(std::move(classes)) {}

  void for_each_match(std::string_view text, MatchVisitor visit) const override {
    for (std::size_t position = 0; position < text.size();) {
      const std::size_t end = kWordEnd(*classes_, text, position);
      if (end > position) {
        visit({position, end});
        position = end;
      } else {
        position += classes_->at(text, position).num_bytes;
      }
    }
  }

 private:
  std::shared_ptr<const UnicodeClasses> classes_;
};

class SpaceAtEndPattern final : public SplitPattern {
 public:
  explicit SpaceAtEndPattern(std::shared_ptr<const UnicodeClasses> classes)
      : classes_(std::move(classes)) {}

  void for_each_match(std::string_view text, MatchVisitor visit) const override {
    for (std::size_t position = 0; position < text.size();) {
      const CodePoint next = classes_->at(text, position);
      if (!is_in(next, kSpace)) {
        position += next.num_bytes;
        continue;
      }
      const std::size_t end = run_end(*classes_, text, position, kSpace);
      const std::size_t end_of_line = last_end_of_line(text, position, end);
      if (end_of_line > position) {
        visit({position, end_of_line});
      }
      position = end;
    }
  }

 private:
  // The last place in (begin, end] that is the end of the text or before a newline; `begin` if none
  // is.
  static std::size_t last_end_of_line(std::string_view text, std::size_t begin,
                                      std::size_t end) noexcept {
    while (end > begin && end < text.size() && text[end] != '\n') {
      --end;
    }
    return end;
  }

  std::shared_ptr<const UnicodeClasses> classes_;
};

}  // namespace

std::shared_ptr<const SplitPattern> make_word_pattern(
    const std::string& regex, const std::shared_ptr<const UnicodeClasses>& classes) {
  if (regex == kGpt2Regex) {
    return std::make_shared<WordPattern<gpt2_word_end>>(classes);
  }
  if (regex == kLlama3Regex) {
    return std::make_shared<WordPattern<llama3_word_end<3>>>(classes);
  }
  if (regex == kQwen2Regex) {
    return std::make_shared<WordPattern<llama3_word_end<1>>>(classes);
  }
  if (regex == kDeepSeekV3WordsRegex) {
    return std::make_shared<WordPattern<deepseek_v3_word_end>>(classes);
  }
  if (regex == kSpaceAtEndRegex) {
    return std::make_shared<SpaceAtEndPattern>(classes);
  }
  return nullptr;
}

}  // namespace fathom::data
