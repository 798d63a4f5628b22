#include "data/pcre2_syntax.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace fathom::data {
namespace {

// The members of Unicode's White_Space, to stand between brackets; and all others.
constexpr std::string_view kSpaces =
    R"(\x09-\x0d\x20\x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNoSpaces =
    R"(\x00-\x08\x0e-\x1f\x21-\x84\x86-\x9f\xa1-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

bool is_letter_or_digit(char character) noexcept {
  return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
         (character >= '0' && character <= '9');
}

class Translator {
 public:
  explicit Translator(std::string_view regex) : regex_(regex) {}

  std::string translate() {
    while (position_ < regex_.size()) {
      switch (regex_[position_]) {
        case '\\':
          escape();
          break;
        case '[':
          open_brackets();
          break;
        case ']':
          in_brackets_ = false;
          copy(1);
          break;
        case '&':
          want(!in_brackets_ || !rest().starts_with("&&"), "&& in brackets");
          copy(1);
          break;
        case '(':
          open_group();
          break;
        case '{':
        case '}':
          brace();
          break;
        default:
          copy(1);
      }
    }
    return out_;
  }

 private:
  std::string_view rest() const { return regex_.substr(position_); }

  void want(bool condition, std::string_view construct) const {
    if (!condition) {
      throw ConfigError(
          concat("the pattern ", regex_, " has ", construct, ", which is not supported"));
    }
  }

  void copy(std::size_t size) {
    out_ += regex_.substr(position_, size);
    position_ += size;
  }

  void replace(std::size_t size, std::string_view by) {
    out_ += by;
    position_ += size;
  }

  void escape() {
    const char letter = position_ + 1 < regex_.size() ? regex_[position_ + 1] : 'Q';
    constexpr std::string_view kSame = "rntfadD0";  // and all that is no letter
    if (letter == 's' || letter == 'S') {
      const std::string_view members = letter == 's' ? kSpaces : kNoSpaces;
      replace(2, in_brackets_ ? std::string(members) : concat("[", members, "]"));
    } else if (letter == 'p' || letter == 'P') {
      property();
    } else if (rest().starts_with("\\x{") || (!in_brackets_ && (letter == 'A' || letter == 'z')) ||
               kSame.find(letter) != std::string_view::npos || !is_letter_or_digit(letter)) {
      want(static_cast<unsigned char>(letter) < 0x80, "an escaped character beyond ASCII");
      copy(2);
    } else {
      want(false, concat("\\", letter));
    }
  }

  // \p{L}, \p{Lu}: general categories; scripts are other sets in PCRE2.
  void property() {
    constexpr std::string_view kCategories =
        " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C "
        "Cc "
        "Cf Cn Co ";
    const std::size_t end = rest().find('}');
    want(rest().size() > 2 && rest()[2] == '{' && end != std::string_view::npos, "\\p without {}");
    const std::string_view name = rest().substr(3, end - 3);
    want(kCategories.find(concat(" ", name, " ")) != std::string_view::npos,
         concat("\\p{", name, "}"));
    copy(end + 1);
  }

  void open_brackets() {
    want(!in_brackets_, "brackets in brackets");
    in_brackets_ = true;
    copy(1);
    if (rest().starts_with('^')) {
      copy(1);
    }
    want(!rest().starts_with(']'), "] as the first in brackets");
  }

  void open_group() {
    constexpr std::array<std::string_view, 7> kGroups = {
        "(?:", "(?i:", "(?i)", "(?=", "(?!", "(?<=", "(?<!"};
    const bool is_known =
        std::any_of(kGroups.begin(), kGroups.end(),
                    [this](std::string_view group) { return rest().starts_with(group); });
    want(in_brackets_ || !rest().starts_with("(*"), "(*");
    want(in_brackets_ || is_known || rest().starts_with("(?>") || !rest().starts_with("(?"),
         rest().substr(0, 4));
    copy(1);
  }

  void brace() {
    want(in_brackets_ || !rest().starts_with("{,"), "{,N}");
    want(in_brackets_ || !rest().starts_with("}+"), "{N,M}+");
    copy(1);
  }

  std::string_view regex_;
  std::size_t position_ = 0;
  bool in_brackets_ = false;
  std::string out_;
};

}  // namespace

std::string to_pcre2_syntax(std::string_view regex) { return Translator(regex).translate(); }

}  // namespace fathom::data
