#include "rl/verifiers/text_verifier.h"

#include <algorithm>

namespace fathom::rl {
namespace {

// Words with one space between them.
std::string words_of(std::string_view text) {
  constexpr std::string_view kWhiteSpace = " \t\r\n\v\f";
  std::string words;
  for (std::size_t begin = text.find_first_not_of(kWhiteSpace); begin != std::string_view::npos;) {
    const std::size_t end = std::min(text.find_first_of(kWhiteSpace, begin), text.size());
    words += words.empty() ? "" : " ";
    words += text.substr(begin, end - begin);
    begin = text.find_first_not_of(kWhiteSpace, end);
  }
  return words;
}

}  // namespace

TextVerifier::TextVerifier(std::string_view answer) : words_(words_of(answer)) {}

Verification TextVerifier::verify(std::string_view answer) const {
  return words_of(answer) == words_ ? Verification{Verdict::kCorrect, "same words"}
                                    : Verification{Verdict::kWrong, "other words"};
}

}  // namespace fathom::rl
