#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/split_pattern.h"

namespace fathom::data {

// One step of a pre-tokenizer: each piece is cut at the matches of an expression (split_pattern.h).
struct SplitStep {
  enum class Keeps {
    kAll,      // matches and what lies between them are pieces (Isolated)
    kMatches,  // what lies between them is dropped (Removed, inverted)
    kRest      // matches are dropped (Removed)
  };

  std::string regex;
  Keeps keeps = Keeps::kAll;

  friend bool operator==(const SplitStep&, const SplitStep&) = default;
};

// How a text is cut into the pieces that byte-pair encoding never merges across: the steps in
// order, each on the pieces of the one before, as in the `tokenizers` package; the last is its
// ByteLevel.
struct PretokenizerDefinition {
  std::vector<SplitStep> splits;
  bool adds_prefix_space = false;  // to each piece that begins with none, after the splits
  bool splits_as_gpt2 = false;     // then, by GPT-2's expression

  friend bool operator==(const PretokenizerDefinition&, const PretokenizerDefinition&) = default;
};

// The pre-tokenizer of a published model: gpt2, llama3, qwen2 (also of Qwen 2.5 and 3), deepseek-v2
// (also of the first DeepSeek LLM) or deepseek-v3 (also of R1, V3.1 and V3.2). Throws ConfigError
// for another name.
PretokenizerDefinition published_pretokenizer(std::string_view name);

// Cuts text into pieces; unless a step drops or adds something, the pieces one after another are
// the text. Immutable: may be shared by threads.
class Pretokenizer {
 public:
  // Throws ConfigError (make_split_pattern()).
  explicit Pretokenizer(PretokenizerDefinition definition);

  const PretokenizerDefinition& definition() const noexcept { return definition_; }

  // visit(std::string_view piece) for each piece in order; none is empty. A piece may be in memory
  // that lasts only for the call. Throws ConfigError for a text that a pattern without a scanner
  // takes too long on (pcre2_pattern.h).
  template <class Visit>
  void for_each_piece(std::string_view text, Visit&& visit) const {
    if (!text.empty()) {
      cut(text, 0, visit);
    }
  }

 private:
  struct Step {
    std::shared_ptr<const SplitPattern> pattern;
    SplitStep::Keeps keeps;
  };

  template <class Visit>
  void cut(std::string_view piece, std::size_t step, Visit& visit) const {
    if (step == definition_.splits.size() && definition_.adds_prefix_space && piece[0] != ' ') {
      cut_further(' ' + std::string(piece), step, visit);
    } else {
      cut_further(piece, step, visit);
    }
  }

  template <class Visit>
  void cut_further(std::string_view piece, std::size_t step, Visit& visit) const {
    if (step == steps_.size()) {
      visit(piece);
      return;
    }
    std::size_t done = 0;
    const auto keep_rest = [&](std::size_t end) {
      if (end > done && steps_[step].keeps != SplitStep::Keeps::kMatches) {
        cut(piece.substr(done, end - done), step + 1, visit);
      }
    };
    steps_[step].pattern->for_each_match(piece, [&](TextRange match) {
      keep_rest(match.begin);
      done = match.end;
      if (steps_[step].keeps != SplitStep::Keeps::kRest) {
        cut(piece.substr(match.begin, match.end - match.begin), step + 1, visit);
      }
    });
    keep_rest(piece.size());
  }

  PretokenizerDefinition definition_;
  std::vector<Step> steps_;
};

}  // namespace fathom::data
