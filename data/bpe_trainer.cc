#include "data/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <unordered_set>

#include "core/error.h"
#include "data/byte_characters.h"
#include "data/pair_table.h"
#include "data/tokenizer_json.h"

namespace fathom::data {
namespace {

// The words as token sequences, with the count of every pair of neighbours kept up to date as pairs
// are merged.
class PairCounts {
 public:
  PairCounts(const WordCounts& words, const std::array<std::int32_t, 256>& byte_tokens) {
    words.for_each([&](const std::string& word, std::int64_t count) {
      FATHOM_CHECK(tokens_.size() < kMaxTokens, tokens_.size());
      words_.push_back({tokens_.size(), word.size(), count});
      for (const char byte : word) {
        tokens_.push_back(byte_tokens[static_cast<std::uint8_t>(byte)]);
      }
    });
    for (std::uint32_t word = 0; word < words_.size(); ++word) {
      const Word& entry = words_[word];
      for (std::size_t i = 0; i + 1 < entry.size; ++i) {
        change(tokens_[entry.begin + i], tokens_[entry.begin + i + 1], entry.count, word);
      }
    }
    push_risen_pairs();
  }

  // The pair with the largest count, out; false when no pair is left.
  bool take_most_frequent(std::uint64_t& pair) {
    while (!heap_.empty()) {
      const Candidate top = heap_.top();
      heap_.pop();
      const std::int64_t count = pairs_.find(top.pair)->count;
      if (count == top.count) {
        pair = top.pair;
        return true;
      }
      // The count fell since the entry was made; had it risen, a newer entry would have come first.
      if (count > 0 && count < top.count) {
        heap_.push({count, top.pair});
      }
    }
    return false;
  }

  void merge(std::uint64_t pair, std::int32_t result) {
    Pair& merged = *pairs_.find(pair);
    merged.count = 0;
    const std::vector<std::uint32_t> words = std::move(merged.words);
    for (const std::uint32_t word : words) {
      merge_in_word(word, static_cast<std::int32_t>(pair >> 32),
                    static_cast<std::int32_t>(pair & 0xffffffffU), result);
    }
    pairs_.find(pair)->count = 0;
    push_risen_pairs();
  }

 private:
  static constexpr std::size_t kMaxTokens = std::size_t{1} << 36;

  struct Word {
    std::size_t begin;
    std::size_t size;
    std::int64_t count;
  };
  struct Pair {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  // where it occurs, or once did
  };
  struct Candidate {
    std::int64_t count;
    std::uint64_t pair;
    bool operator<(const Candidate& other) const noexcept {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void change(std::int32_t left, std::int32_t right, std::int64_t count, std::uint32_t word) {
    const std::uint64_t key = pair_key(left, right);
    Pair& pair = pairs_[key];
    pair.count += count;
    if (count > 0) {
      if (pair.words.empty() || pair.words.back() != word) {
        pair.words.push_back(word);
      }
      risen_.push_back(key);
    }
  }

  void merge_in_word(std::uint32_t word, std::int32_t left, std::int32_t right,
                     std::int32_t result) {
    Word& entry = words_[word];
    std::int32_t* tokens = tokens_.data() + entry.begin;
    std::size_t size = 0;  // of what is already rewritten
    for (std::size_t i = 0; i < entry.size; ++i) {
      if (tokens[i] != left || i + 1 == entry.size || tokens[i + 1] != right) {
        tokens[size++] = tokens[i];
        continue;
      }
      if (size > 0) {
        change(tokens[size - 1], left, -entry.count, word);
        change(tokens[size - 1], result, entry.count, word);
      }
      if (i + 2 < entry.size) {
        change(right, tokens[i + 2], -entry.count, word);
        change(result, tokens[i + 2], entry.count, word);
      }
      tokens[size++] = result;
      ++i;
    }
    entry.size = size;
  }

  void push_risen_pairs() {
    std::sort(risen_.begin(), risen_.end());
    risen_.erase(std::unique(risen_.begin(), risen_.end()), risen_.end());
    for (const std::uint64_t key : risen_) {
      const std::int64_t count = pairs_.find(key)->count;
      if (count > 0) {
        heap_.push({count, key});
      }
    }
    risen_.clear();
  }

  std::vector<std::int32_t> tokens_;
  std::vector<Word> words_;
  PairTable<Pair> pairs_;
  std::vector<std::uint64_t> risen_;  // pairs whose count rose in this merge
  std::priority_queue<Candidate> heap_;
};

// Checks the options; the number of ids for bytes and merged tokens.
std::int32_t num_learned_ids(const BpeTrainerOptions& options) {
  std::unordered_set<std::string> texts;
  for (const std::string& token : options.special_tokens) {
    if (token.empty() || !texts.insert(token).second) {
      throw ConfigError(
          concat("special token \"", token, "\" is ", token.empty() ? "empty" : "listed twice"));
    }
  }
  const auto num_special = static_cast<std::int32_t>(options.special_tokens.size());
  if (options.vocab_size < 256 + num_special) {
    throw ConfigError(concat("a vocabulary of ", options.vocab_size,
                             " entries has no room for 256 bytes and ", num_special,
                             " special tokens"));
  }
  return options.vocab_size - num_special;
}

}  // namespace

void WordCounts::add(std::string_view document) {
  pretokenizer_.for_each_piece(document, [this](std::string_view word) {
    const auto found = counts_.find(word);
    if (found != counts_.end()) {
      ++found->second;
    } else {
      counts_.emplace(word, 1);
    }
  });
}

void WordCounts::merge(const WordCounts& other) {
  for (const auto& [word, count] : other.counts_) {
    counts_[word] += count;
  }
}

Tokenizer train_bpe(const WordCounts& words, const BpeTrainerOptions& options) {
  const auto num_ids = static_cast<std::size_t>(num_learned_ids(options));
  TokenizerDefinition definition;
  definition.pretokenizer = words.pretokenizer();
  std::array<std::int32_t, 256> byte_tokens{};
  std::unordered_map<std::string, std::int32_t> id_of_token;
  for (const std::uint8_t byte : ByteCharacters().bytes_in_order()) {
    byte_tokens[byte] = static_cast<std::int32_t>(definition.tokens.size());
    definition.tokens.emplace_back(1, static_cast<char>(byte));
  }
  PairCounts pairs(words, byte_tokens);
  PairTable<char> merged;
  std::uint64_t pair = 0;
  while (definition.tokens.size() < num_ids && pairs.take_most_frequent(pair)) {
    const auto left = static_cast<std::int32_t>(pair >> 32);
    const auto right = static_cast<std::int32_t>(pair & 0xffffffffU);
    const std::string token = definition.tokens[static_cast<std::size_t>(left)] +
                              definition.tokens[static_cast<std::size_t>(right)];
    // Another pair may have made the same token before: ab + c after a + bc. It keeps its id.
    const auto [known, is_new] =
        id_of_token.try_emplace(token, static_cast<std::int32_t>(definition.tokens.size()));
    const std::int32_t result = known->second;
    if (is_new) {
      definition.tokens.push_back(token);
    }
    // And so a pair may come up again that has a rank already.
    if (std::exchange(merged[pair], 1) == 0) {
      definition.merges.push_back({left, right, result});
    }
    pairs.merge(pair, result);
  }
  for (const std::string& text : options.special_tokens) {
    definition.added_tokens.push_back({text, static_cast<std::int32_t>(definition.tokens.size())});
    definition.tokens.push_back(text);
  }
  return Tokenizer(write_tokenizer_json(definition), "the trained tokenizer");
}

}  // namespace fathom::data
