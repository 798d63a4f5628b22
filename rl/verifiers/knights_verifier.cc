#include "rl/verifiers/knights_verifier.h"

#include <optional>

#include "core/error.h"

namespace fathom::rl {
namespace {

bool is_filler(std::string_view word, bool behind_name) {
  // Before a name is known, "a" is one: people are often called A and B.
  return word == "is" || word == "and" || word == "the" || (word == "a" && behind_name);
}

bool is_word_byte(char c) {
  // Bytes of characters beyond ASCII belong to words: names may have any letters.
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
}

bool is_separator(char c) { return std::string_view(" \t\r\n,.;:*-").find(c) != std::string::npos; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// The first word of `text` in lower case, cut off with what parts it from the next; nothing when
// something stands there that is no word.
std::optional<std::string> take_word(std::string_view& text) {
  std::string word;
  while (!text.empty() && is_word_byte(text[0])) {
    word += lower(text[0]);
    text.remove_prefix(1);
  }
  if (word.empty()) {
    return std::nullopt;
  }
  while (!text.empty() && is_separator(text[0])) {
    text.remove_prefix(1);
  }
  return word;
}

// Nothing when the text says anything else, two things of one person, or something of more than
// `limit` people.
std::optional<std::map<std::string, bool>> read_kinds(std::string_view text, std::size_t limit) {
  std::map<std::string, bool> kinds;
  std::string name;
  while (!text.empty() && is_separator(text[0])) {
    text.remove_prefix(1);
  }
  while (!text.empty()) {
    const std::optional<std::string> word = take_word(text);
    if (!word) {
      return std::nullopt;
    }
    if (*word == "knight" || *word == "knave") {
      if (name.empty() || kinds.size() == limit || !kinds.emplace(name, *word == "knight").second) {
        return std::nullopt;
      }
      name.clear();
    } else if (!is_filler(*word, !name.empty())) {
      if (!name.empty()) {
        return std::nullopt;
      }
      name = *word;
    }
  }
  return name.empty() ? std::optional(kinds) : std::nullopt;
}

}  // namespace

KnightsVerifier::KnightsVerifier(std::string_view answer) {
  const std::optional<std::map<std::string, bool>> kinds = read_kinds(answer, answer.size());
  if (!kinds || kinds->empty()) {
    throw ConfigError(concat("the answer \"", answer,
                             "\" does not say who is what, as in \"Alice knight, Bob knave\""));
  }
  is_knight_ = *kinds;
}

Verification KnightsVerifier::verify(std::string_view answer) const {
  const std::optional<std::map<std::string, bool>> kinds = read_kinds(answer, is_knight_.size());
  if (!kinds) {
    return {Verdict::kWrong, "does not say who is what"};
  }
  return *kinds == is_knight_ ? Verification{Verdict::kCorrect, "same kinds"}
                              : Verification{Verdict::kWrong, "other kinds"};
}

}  // namespace fathom::rl
