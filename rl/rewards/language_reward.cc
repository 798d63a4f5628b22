#include "rl/rewards/language_reward.h"

#include <cstdint>
#include <optional>

#include "core/error.h"

namespace fathom::rl {
namespace {

// kOther: letters of any other script.
enum class Letter { kNone, kLatin, kHan, kCyrillic, kOther };

Letter to_letter(Script script) {
  switch (script) {
    case Script::kLatin:
      return Letter::kLatin;
    case Script::kHan:
      return Letter::kHan;
    case Script::kCyrillic:
      return Letter::kCyrillic;
  }
  return Letter::kNone;
}

struct Range {
  char32_t first;
  char32_t last;
  Letter letter;
};

// Blocks of the Unicode standard; what no range holds is no letter.
constexpr Range kRanges[] = {
    {U'A', U'Z', Letter::kLatin},      {U'a', U'z', Letter::kLatin},
    {0xaa, 0xaa, Letter::kLatin},      {0xba, 0xba, Letter::kLatin},
    {0xc0, 0xd6, Letter::kLatin},      {0xd8, 0xf6, Letter::kLatin},
    {0xf8, 0x24f, Letter::kLatin},     {0x300, 0x36f, Letter::kLatin},
    {0x400, 0x52f, Letter::kCyrillic}, {0x531, 0x58f, Letter::kOther},
    {0x5d0, 0x6ff, Letter::kOther},    {0x900, 0x109f, Letter::kOther},
    {0x10a0, 0x1dbf, Letter::kOther},  {0x1e00, 0x1eff, Letter::kLatin},
    {0x3041, 0x30ff, Letter::kOther},  {0x3400, 0x4dbf, Letter::kHan},
    {0x4e00, 0x9fff, Letter::kHan},    {0xac00, 0xd7a3, Letter::kOther},
    {0xf900, 0xfaff, Letter::kHan},    {0x20000, 0x323af, Letter::kHan},
};

// Greek letters are left out: they are formulas in any language.
Letter letter_of(char32_t character) {
  for (const Range& range : kRanges) {
    if (character >= range.first && character <= range.last) {
      return range.letter;
    }
  }
  return Letter::kNone;
}

// The character at the front of `text`, cut off. Malformed UTF-8 gives bytes that are no letters.
char32_t take_character(std::string_view& text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  char32_t character = length == 1 ? lead : lead & (0xffU >> (length + 1));
  if ((lead >= 0x80 && lead < 0xc0) || text.size() < length) {
    text.remove_prefix(1);
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0U) != 0x80) {
      text.remove_prefix(i);
      return 0;
    }
    character = character << 6 | (next & 0x3fU);
  }
  text.remove_prefix(length);
  return character;
}

RewardValue share_of(std::string_view text, Letter target) {
  std::int64_t num_words = 0;
  std::int64_t num_target_words = 0;
  Letter before = Letter::kNone;
  bool is_command = false;  // \frac, \sqrt: formulas
  while (!text.empty()) {
    const char32_t character = take_character(text);
    const Letter letter = letter_of(character);
    const bool begins_word =
        letter != Letter::kNone && (letter == Letter::kHan || letter != before) && !is_command;
    num_words += begins_word ? 1 : 0;
    num_target_words += begins_word && letter == target ? 1 : 0;
    is_command = character == U'\\' || (is_command && letter == Letter::kLatin);
    before = letter;
  }
  const double share =
      num_words == 0 ? 0.0 : static_cast<double>(num_target_words) / static_cast<double>(num_words);
  return {.value = share, .reason = concat(num_target_words, " of ", num_words, " words")};
}

}  // namespace

RewardValue LanguageReward::score(const RewardInput& input) const {
  const std::string_view text = input.completion;
  std::string_view thoughts = text.substr(0, text.find("</think>"));
  constexpr std::string_view kThink = "<think>";
  if (const std::size_t begin = thoughts.find(kThink); begin != std::string_view::npos) {
    thoughts.remove_prefix(begin + kThink.size());
  }
  return share_of(thoughts, to_letter(target_));
}

}  // namespace fathom::rl
