#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "data/unicode_classes.h"

namespace fathom::data {

// How a text is cut into the pieces that byte-pair encoding never merges across. Each is a known
// regular expression, run by a hand-written scanner in linear time whatever the text.
enum class SplitPattern {
  kGpt2,    // ByteLevel with use_regex of the `tokenizers` package
  kLlama3,  // contractions, one leading character with letters, numbers by three, punctuation with
            // newlines
};

// The regular expression as it stands in a tokenizer.json.
std::string_view regex_of(SplitPattern pattern) noexcept;
// The pattern whose regular expression is exactly `regex`.
std::optional<SplitPattern> pattern_of(std::string_view regex) noexcept;

// Cuts text into pieces; the pieces one after another are the text. Immutable: may be shared by
// threads.
class Pretokenizer {
 public:
  explicit Pretokenizer(SplitPattern pattern) : pattern_(pattern) {}

  SplitPattern pattern() const noexcept { return pattern_; }
  // The end of the piece that begins at byte `begin` < text.size(); > begin. Pieces follow one
  // another from 0.
  std::size_t piece_end(std::string_view text, std::size_t begin) const noexcept;

  // visit(std::string_view piece) for each piece in order.
  template <class Visit>
  void for_each_piece(std::string_view text, Visit&& visit) const {
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = piece_end(text, begin);
      visit(text.substr(begin, end - begin));
      begin = end;
    }
  }

 private:
  std::size_t gpt2_piece_end(std::string_view text, std::size_t begin) const noexcept;
  std::size_t llama3_piece_end(std::string_view text, std::size_t begin) const noexcept;
  // The end of the run of code points of one class that goes on at `position`, at most `limit` of
  // them.
  std::size_t run_end(std::string_view text, std::size_t position, UnicodeClass wanted,
                      std::size_t limit) const noexcept;
  // The end of the run of [^\s\p{L}\p{N}] at `position`.
  std::size_t other_run_end(std::string_view text, std::size_t position) const noexcept;
  // The match of \s+(?!\S)|\s+ at white space, or of \s*[\r\n]+ first where newlines end a piece.
  enum class Newlines { kEndAPiece, kAreSpace };
  std::size_t space_piece_end(std::string_view text, std::size_t begin,
                              Newlines newlines) const noexcept;

  SplitPattern pattern_;
  UnicodeClasses classes_;
};

}  // namespace fathom::data
