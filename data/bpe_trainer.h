#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/checksum.h"
#include "data/pretokenizer.h"
#include "data/tokenizer.h"

namespace fathom::data {

// How often each word (piece of the split) occurs in a text. Threads count parts of the text apart
// and merge: the sums do not depend on who counted what.
class WordCounts {
 public:
  explicit WordCounts(PretokenizerDefinition pretokenizer = published_pretokenizer("llama3"))
      : pretokenizer_(std::move(pretokenizer)) {}

  // Adds the words of one document.
  void add(std::string_view document);
  void merge(const WordCounts& other);

  const PretokenizerDefinition& pretokenizer() const noexcept { return pretokenizer_.definition(); }
  std::size_t num_different_words() const noexcept { return counts_.size(); }
  // visit(const std::string& word, std::int64_t count), in no order that means anything.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [word, count] : counts_) {
      visit(word, count);
    }
  }

 private:
  Pretokenizer pretokenizer_;
  std::unordered_map<std::string, std::int64_t, ChecksumHash, std::equal_to<>> counts_;
};

struct BpeTrainerOptions {
  // Entries of the finished vocabulary: 256 bytes, merged tokens, special tokens.
  std::int32_t vocab_size = 4096;
  // The last ids, in this order; texts must differ.
  std::vector<std::string> special_tokens = SpecialTokenNames{}.first();
};

// Learns byte-level BPE: again and again the pair of neighbours that occurs most often becomes a
// token; among equals, the one of the smallest ids (the rule of the `tokenizers` package, whose ids
// of bytes and merges come out the same). The vocabulary is smaller than asked when every word has
// become a token before. Throws ConfigError when vocab_size leaves no room for bytes and special
// tokens, and for special tokens that are empty or equal.
Tokenizer train_bpe(const WordCounts& words, const BpeTrainerOptions& options);

}  // namespace fathom::data
