#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/hdf5_file.h"
#include "data/tokenizer.h"

namespace fathom::data {

// Which tokenizer a shard was made with.
struct Vocabulary {
  std::int32_t vocab_size = 0;
  std::string tokenizer_hash;  // Tokenizer::hash()
  SpecialTokenIds special_tokens;
  std::vector<std::int32_t> text_bytes_per_token;  // [vocab_size]; 0 for special tokens

  static Vocabulary of(const Tokenizer& tokenizer);
};

// Documents as tokens: no separators between them, packing adds those. In memory, to be written.
struct TokenShardContent {
  Vocabulary vocabulary;
  std::vector<std::int32_t> tokens;  // of all documents, one after another
  std::vector<std::int64_t> document_offsets{
      0};                                    // [num_documents + 1]: where each begins in tokens
  std::vector<std::int64_t> document_bytes;  // [num_documents]: UTF-8 bytes of the text
};

// The HDF5 file of a shard, format version 1. Root attributes: format,
// format_version, vocab_size, tokenizer_hash, num_tokens, num_documents, num_bytes, bos_token ...
// fim_end_token, checksum_block_tokens and the checksums of the small datasets. Datasets: tokens
// (uint16 up to a vocabulary of 65,536, else uint32), token_checksums (XXH3-64 of each block of
// tokens), document_offsets, document_bytes, text_bytes_per_token. Contiguous, little-endian.
// Written atomically and durably (core/file.h); the same bytes for the same content. Throws
// IoError; InternalError for content that contradicts itself.
void write_token_shard(const std::filesystem::path& path, const TokenShardContent& content);

// A shard opened for reading. Everything but the tokens is read and checked when it is opened; a
// block of tokens is checked against its checksum when it is first touched, and every token against
// the vocabulary each time. Holds a file descriptor and no HDF5 object: all const functions may be
// called by several threads.
class TokenShard {
 public:
  // Throws IoError for a missing, truncated or damaged file, ConfigError for one that is no token
  // shard or of a newer format; both name the file.
  explicit TokenShard(const std::filesystem::path& path);
  ~TokenShard();
  TokenShard(TokenShard&& other) noexcept;
  TokenShard& operator=(TokenShard&&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  const Vocabulary& vocabulary() const noexcept { return vocabulary_; }
  std::int64_t num_tokens() const noexcept { return document_offsets_.back(); }
  std::int64_t num_documents() const noexcept {
    return static_cast<std::int64_t>(document_bytes_.size());
  }
  std::int64_t num_bytes() const noexcept { return num_bytes_; }
  std::span<const std::int64_t> document_offsets() const noexcept { return document_offsets_; }
  std::span<const std::int64_t> document_bytes() const noexcept { return document_bytes_; }

  // Tokens begin .. begin + out.size() - 1 into `out`. Throws ConfigError for a damaged block or a
  // token beyond the vocabulary, IoError where the file cannot be read.
  void read_tokens(std::int64_t begin, std::span<std::int32_t> out) const;
  // Reads and checks all of it; throws what read_tokens() throws.
  void verify() const;

 private:
  void read_header(const Hdf5Reader& file);
  void read_tables(const Hdf5Reader& file);
  void check_tables() const;
  template <class Element>
  std::vector<Element> read_table(const Hdf5Reader& file, const std::string& name, ElementType type,
                                  std::int64_t size) const;
  void read_bytes(std::int64_t file_offset, std::span<std::byte> out) const;
  void check_block(std::int64_t block) const;
  [[noreturn]] void refuse_token(std::int64_t index, std::int64_t token) const;
  [[noreturn]] void refuse_content(const std::string& what) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  Vocabulary vocabulary_;
  std::int64_t declared_tokens_ = 0;
  std::int64_t declared_documents_ = 0;
  std::int64_t num_bytes_ = 0;
  std::int64_t block_tokens_ = 0;
  Hdf5Reader::Dataset tokens_;
  std::vector<std::uint64_t> token_checksums_;
  std::vector<std::int64_t> document_offsets_;
  std::vector<std::int64_t> document_bytes_;
  std::unique_ptr<std::atomic<bool>[]> is_block_checked_;
};

// Opens all shards of a data set. Each path is a shard, a folder (its *.h5 in order of their names)
// or the prefix of what `fathom tokenize` wrote (PREFIX-00000-of-00004.h5). Throws IoError or
// ConfigError when a shard of a numbered set is missing, when there is none, and when two of them
// were made with different tokenizers.
std::vector<TokenShard> open_token_shards(const std::vector<std::filesystem::path>& paths);

// The name of shard `index` of `count`: PREFIX-00000-of-00004.h5.
std::filesystem::path shard_path(const std::filesystem::path& prefix, std::int64_t index,
                                 std::int64_t count);

// The shards of that prefix that are there, of whatever count, in order of their names.
std::vector<std::filesystem::path> shards_of_prefix(const std::filesystem::path& prefix);

// Throw ConfigError unless the tokens of `shard` are tokens of a model with model_vocab_size rows
// (it may have more than the tokenizer: padding), or unless it was made with the tokenizer of that
// hash.
void check_model_vocabulary(const TokenShard& shard, std::int64_t model_vocab_size);
void check_tokenizer_hash(const TokenShard& shard, const std::string& tokenizer_hash);

}  // namespace fathom::data
