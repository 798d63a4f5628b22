#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/added_token.h"
#include "data/bpe_model.h"
#include "data/checksum.h"
#include "data/normalizer.h"
#include "data/pretokenizer.h"
#include "data/tokenizer_json.h"

namespace fathom::data {

// How the texts of added tokens are taken where they stand in a text to encode.
enum class AddedTokens {
  kParse,   // become the tokens, as in the `tokenizers` package: for prompts and templates
  kAsText,  // are text like any other: for data, which must not be able to forge an end of sentence
};

// Which added tokens play which part, by their texts; of those that a tokenizer has, the first one
// does. Of each part the first is that of a tokenizer made here, the second DeepSeek's; ends and
// beginnings of a text go on with Llama-3's, and ends with that of GPT-2 and Qwen.
struct SpecialTokenNames {
  std::vector<std::string> bos = {"<|begin_of_sentence|>", "<｜begin▁of▁sentence｜>",
                                  "<|begin_of_text|>"};
  std::vector<std::string> eos = {"<|end_of_sentence|>", "<｜end▁of▁sentence｜>", "<|end_of_text|>",
                                  "<|endoftext|>"};
  std::vector<std::string> pad = {"<|pad|>", "<｜▁pad▁｜>"};
  std::vector<std::string> fim_begin = {"<|fim_begin|>", "<｜fim▁begin｜>"};
  std::vector<std::string> fim_hole = {"<|fim_hole|>", "<｜fim▁hole｜>"};
  std::vector<std::string> fim_end = {"<|fim_end|>", "<｜fim▁end｜>"};

  // The first name of each part.
  std::vector<std::string> first() const {
    return {bos[0], eos[0], pad[0], fim_begin[0], fim_hole[0], fim_end[0]};
  }
};

// Ids of the special tokens; -1: the tokenizer has none.
struct SpecialTokenIds {
  std::int32_t bos = -1;
  std::int32_t eos = -1;
  std::int32_t pad = -1;
  std::int32_t fim_begin = -1;
  std::int32_t fim_hole = -1;
  std::int32_t fim_end = -1;

  bool has_fim() const noexcept { return fim_begin >= 0 && fim_hole >= 0 && fim_end >= 0; }
  friend bool operator==(const SpecialTokenIds&, const SpecialTokenIds&) = default;
};

// Byte-level BPE as described by a Hugging Face tokenizer.json. Any bytes encode, and decode to
// themselves unless the file changes texts (changes_text()). Immutable: may be shared by threads.
// With the published splits (split_pattern.h) encoding takes linear time in the text but for one
// long word, which takes O(n log n).
class Tokenizer {
 public:
  // `content` is a whole tokenizer.json; `origin` names it in errors. Throws ConfigError
  // (tokenizer_json.h).
  explicit Tokenizer(std::string content, const std::string& origin = "tokenizer.json",
                     const SpecialTokenNames& names = {});
  // Reads the file. Throws IoError, ConfigError.
  static Tokenizer load(const std::filesystem::path& path, const SpecialTokenNames& names = {});
  // Writes json() atomically. Throws IoError.
  void save(const std::filesystem::path& path) const;

  Tokenizer(Tokenizer&&) = default;
  Tokenizer& operator=(Tokenizer&&) = default;

  // A part of a text: an added token, or what lies between two.
  struct TextOrToken {
    std::string text;
    std::int32_t token = -1;  // -1: text
  };
  // The added tokens of a text as AddedTokens::kParse finds them, and the text between them as the
  // normalizer makes it.
  std::vector<TextOrToken> parse(std::string_view text) const;

  std::vector<std::int32_t> encode(std::string_view text,
                                   AddedTokens added_tokens = AddedTokens::kParse) const;
  // The text between two tokens in one piece, and as text whatever it holds.
  std::vector<std::int32_t> encode(std::span<const TextOrToken> parts) const;
  // The bytes of all tokens one after another, special ones by their texts. May be invalid UTF-8
  // where `tokens` ends within a character. Throws ConfigError for an id out of range.
  std::string decode(std::span<const std::int32_t> tokens) const;

  // Whether a text may decode to another than was encoded: the file has a normalizer, a step of its
  // split that drops or adds something, or an added token that takes the white space beside it.
  bool changes_text() const noexcept;

  // A model may have more rows.
  std::int32_t vocab_size() const noexcept {
    return static_cast<std::int32_t>(definition_.tokens.size());
  }
  // The id of an added token by its text.
  std::optional<std::int32_t> token_id(std::string_view added_token) const;
  const SpecialTokenIds& special_tokens() const noexcept { return special_tokens_; }
  bool is_special(std::int32_t token) const noexcept {
    return token >= 0 && token < vocab_size() && is_special_[static_cast<std::size_t>(token)];
  }
  // [vocab_size]: UTF-8 bytes of text that each token stands for; 0 for special tokens, which are
  // no text.
  std::vector<std::int32_t> text_bytes_per_token() const;

  // 16 hexadecimal digits: XXH3-64 of json().
  const std::string& hash() const noexcept { return hash_; }
  const std::string& json() const noexcept { return json_; }

 private:
  friend class Encoder;

  // visit(const AddedTokenFinder::Section&) for each added token and the normalized text between.
  template <class Visit>
  void for_each_part(std::string_view text, const Visit& visit) const;

  std::string json_;
  std::string hash_;
  TokenizerDefinition definition_;
  Pretokenizer pretokenizer_;
  BpeModel model_;
  Normalizer normalizer_;
  AddedTokenFinder added_tokens_;             // found before the normalizer
  AddedTokenFinder normalized_added_tokens_;  // and after it
  std::unordered_map<std::string, std::int32_t, ChecksumHash, std::equal_to<>> added_token_ids_;
  std::vector<bool> is_special_;
  SpecialTokenIds special_tokens_;
};

// Encodes many texts with one tokenizer, which must outlive it. Remembers the words that it met;
// one per thread.
class Encoder {
 public:
  // `expected_bytes`: of all texts together, for the size of the memory.
  explicit Encoder(const Tokenizer& tokenizer, std::size_t expected_bytes = std::size_t{1} << 30);

  // Appends the tokens of `text` to `out`.
  void encode(std::string_view text, AddedTokens added_tokens, std::vector<std::int32_t>& out);

 private:
  static constexpr std::size_t kMaxCachedBytes = 15;
  static constexpr std::size_t kMaxCachedTokens = 7;

  // A word of up to 15 bytes, padded with zeros, its length in the last byte; and its tokens.
  struct CachedWord {
    std::array<std::uint64_t, 2> word{};
    std::array<std::int32_t, kMaxCachedTokens> tokens{};
    std::int32_t num_tokens = 0;  // 0: an empty slot
  };

  void encode_text(std::string_view text, std::vector<std::int32_t>& out);
  void encode_word(std::string_view word, std::vector<std::int32_t>& out);

  const Tokenizer* tokenizer_;
  BpeModel::Scratch scratch_;
  std::vector<CachedWord> cache_;  // one slot per hash value; a newer word takes the slot
};

}  // namespace fathom::data
