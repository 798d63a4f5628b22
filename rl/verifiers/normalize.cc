#include "rl/verifiers/normalize.h"

#include <algorithm>
#include <array>
#include <utility>

namespace fathom::rl {
namespace {

using Replacement = std::pair<std::string_view, std::string_view>;

// Commands by name; a name that is not here stays as it is.
constexpr std::array kCommands{
    Replacement{"dfrac", "\\frac"},  Replacement{"tfrac", "\\frac"}, Replacement{"cfrac", "\\frac"},
    Replacement{"times", "*"},       Replacement{"cdot", "*"},       Replacement{"div", "/"},
    Replacement{"left", ""},         Replacement{"right", ""},       Replacement{"text", ""},
    Replacement{"mathrm", ""},       Replacement{"mathbf", ""},      Replacement{"textbf", ""},
    Replacement{"displaystyle", ""}, Replacement{"boxed", ""},       Replacement{"fbox", ""},
    Replacement{"quad", " "},        Replacement{"qquad", " "},      Replacement{"degree", " "},
};
// A backslash before one character that is no letter.
constexpr std::array kEscapes{
    Replacement{"%", "%"}, Replacement{"$", " "}, Replacement{",", " "},  Replacement{";", " "},
    Replacement{":", " "}, Replacement{" ", " "}, Replacement{"(", " "},  Replacement{")", " "},
    Replacement{"[", " "}, Replacement{"]", " "}, Replacement{"\\", " "},
};
// Everything else, longest first where one begins another.
constexpr std::array kTexts{
    Replacement{"^{\\circ}", " "},
    Replacement{"^\\circ", " "},
    Replacement{"{,}", ","},
    Replacement{"\xe2\x88\x92", "-"},  // minus sign
    Replacement{"\xe2\x80\x93", "-"},  // en dash
    Replacement{"\xc3\x97", "*"},      // multiplication sign
    Replacement{"\xc2\xb7", "*"},      // middle dot
    Replacement{"\xc3\xb7", "/"},      // division sign
    Replacement{"\xc2\xb0", " "},      // degree
    Replacement{"\xc2\xa0", " "},      // no-break space
    Replacement{"\xe2\x80\xaf", " "},  // narrow no-break space
    Replacement{"\xe2\x80\x89", " "},  // thin space
    Replacement{"\xe3\x80\x80", " "},  // ideographic space
    Replacement{"~", " "},
    Replacement{"$", " "},
    Replacement{"\t", " "},
    Replacement{"\n", " "},
    Replacement{"\r", " "},
};

constexpr std::string_view kFirstOfTexts = "^{~$\\\t\n\r";

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

template <std::size_t kCount>
const Replacement* find_prefix(const std::array<Replacement, kCount>& table,
                               std::string_view text) {
  const auto found = std::find_if(table.begin(), table.end(),
                                  [&](const Replacement& r) { return text.starts_with(r.first); });
  return found == table.end() ? nullptr : &*found;
}

// Full-width forms U+FF01 .. U+FF5E stand for ASCII 0x21 .. 0x7e; 0 when `text` begins otherwise.
char full_width(std::string_view text) {
  if (text.size() < 3 || text[0] != '\xef') {
    return 0;
  }
  const auto second = static_cast<unsigned char>(text[1]);
  const auto third = static_cast<unsigned char>(text[2]);
  const int code = second == 0xbc && third >= 0x81   ? third - 0x80
                   : second == 0xbd && third <= 0x9e ? third - 0x80 + 0x40
                                                     : 0;
  return code == 0 ? '\0' : static_cast<char>(code + 0x20);
}

class Normalizer {
 public:
  explicit Normalizer(std::string_view text) : text_(text) { out_.reserve(text.size()); }

  std::string run() {
    while (!text_.empty()) {
      step();
    }
    return std::move(out_);
  }

 private:
  void put(std::string_view replacement, std::size_t length) {
    for (const char c : replacement) {
      if (c != ' ' || (!out_.empty() && out_.back() != ' ')) {
        out_ += c;
      }
    }
    text_.remove_prefix(length);
  }

  void step() {
    const bool may_begin_text = static_cast<unsigned char>(text_[0]) >= 0x80 ||
                                kFirstOfTexts.find(text_[0]) != std::string_view::npos;
    // The set of first bytes is for speed alone.
    const Replacement* const found = may_begin_text ? find_prefix(kTexts, text_) : nullptr;
    if (found != nullptr) {
      put(found->second, found->first.size());
    } else if (text_[0] == '\\' && text_.size() > 1) {
      command();
    } else if (const char ascii = full_width(text_)) {
      put({&ascii, 1}, 3);
    } else {
      put(text_.substr(0, 1), 1);
    }
  }

  void command() {
    const std::string_view rest = text_.substr(1);
    if (rest[0] == '!') {  // a negative space: closes the gap to what follows
      const std::size_t end = std::min(rest.find_first_not_of(' ', 1), rest.size());
      text_.remove_prefix(1 + end);
    } else if (!is_letter(rest[0])) {
      const Replacement* found = find_prefix(kEscapes, rest);
      put(found != nullptr ? found->second : text_.substr(0, 2), 2);
    } else {
      const auto end = std::find_if_not(rest.begin(), rest.end(), is_letter);
      const auto length = static_cast<std::size_t>(end - rest.begin());
      const auto* const found =
          std::find_if(kCommands.begin(), kCommands.end(),
                       [&](const Replacement& r) { return r.first == rest.substr(0, length); });
      put(found != kCommands.end() ? found->second : text_.substr(0, 1 + length), 1 + length);
    }
  }

  std::string_view text_;
  std::string out_;
};

std::string_view trim(std::string_view text, std::string_view characters) {
  const std::size_t begin = std::min(text.find_first_not_of(characters), text.size());
  const std::size_t end = text.find_last_not_of(characters);
  return text.substr(begin, end == std::string_view::npos ? 0 : end + 1 - begin);
}

}  // namespace

std::string normalize(std::string_view answer) {
  const std::string text = Normalizer(answer).run();
  std::string_view result = trim(text, " *_`");
  if (result.ends_with('.')) {
    result = trim(result.substr(0, result.size() - 1), " *_`");
  }
  return std::string(result);
}

}  // namespace fathom::rl
