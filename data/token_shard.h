#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/input_file.h"
#include "core/open_files.h"
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

// Tokens begin .. begin + size - 1 of a shard.
struct TokenRange {
  std::int64_t begin = 0;
  std::int64_t size = 0;
};

// A shard opened for reading: what its header says, and where its datasets lie. These are read when
// they are wanted, so that a shard takes less than a kilobyte of memory, and its file is open while
// it is among those wanted last. All const functions may be called by several threads.
class TokenShard {
 public:
  // Throws IoError for a missing or truncated file, ConfigError for one that is no token shard, of
  // a newer format or damaged; both name the file.
  // Shares with `like`, which may be null, the bound on open files, and the vocabulary where it is
  // the same.
  explicit TokenShard(const std::filesystem::path& path, const TokenShard* like = nullptr);

  const std::filesystem::path& path() const noexcept { return path_; }
  const Vocabulary& vocabulary() const noexcept { return *vocabulary_; }
  std::int64_t num_tokens() const noexcept { return tokens_.num_elements; }
  std::int64_t num_documents() const noexcept { return document_bytes_.place.num_elements; }
  std::int64_t num_bytes() const noexcept { return num_bytes_; }
  // XXH3-64 of how many tokens and documents there are and of the checksums of all of them, as the
  // header says: nothing else is read.
  std::uint64_t contents() const noexcept;

  // Tokens begin .. begin + out.size() - 1 into `out`, by whole blocks, which are held against
  // their checksums, as all tokens are against the vocabulary. Throws ConfigError for damage,
  // IoError where the file cannot be read.
  void read_tokens(std::int64_t begin, std::span<std::int32_t> out) const;
  // The tokens of a document: one look-up in the file. It is not held against the table's checksum.
  // Throws as read_tokens() does.
  TokenRange document(std::int64_t index) const;
  // Whole tables, checked: [num_documents + 1] and [num_documents]. Throw as read_tokens() does.
  std::vector<std::int64_t> read_document_offsets() const;
  std::vector<std::int64_t> read_document_bytes() const;
  // Reads and checks all of it; throws what read_tokens() throws.
  void verify() const;

 private:
  // A small dataset.
  struct Table {
    std::string_view name;
    Hdf5Reader::Dataset place;
    std::uint64_t checksum = 0;
  };

  Vocabulary read_header(const Hdf5Reader& file);
  void find_datasets(const Hdf5Reader& file, std::int64_t num_tokens, std::int64_t num_documents);
  Table find_table(const Hdf5Reader& file, std::string_view name, ElementType type,
                   std::int64_t size) const;
  template <class Element>
  std::vector<Element> read_table(const Table& table) const;
  std::vector<std::int32_t> read_text_bytes_per_token() const;
  std::shared_ptr<const InputFile> file() const;
  std::span<const std::byte> read_block(std::int64_t block, std::vector<std::byte>& room) const;
  [[noreturn]] void refuse_token(std::int64_t index, std::int64_t token) const;
  [[noreturn]] void refuse_content(const std::string& what) const;

  std::filesystem::path path_;
  std::int64_t file_bytes_ = 0;
  std::shared_ptr<OpenFiles<InputFile>> files_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::int64_t num_bytes_ = 0;
  std::int64_t block_tokens_ = 0;
  Hdf5Reader::Dataset tokens_;
  Table token_checksums_;
  Table text_bytes_per_token_;
  Table document_offsets_;
  Table document_bytes_;
};

// Opens all shards of a data set. Each path is a shard, a folder (its *.h5 in order of their names)
// or the prefix of what `fathom tokenize` wrote (PREFIX-00000-of-00004.h5). They share what shards
// can share, with `like` too unless it is null. Throws IoError or ConfigError when a shard of a
// numbered set is missing, when there is none, and when two of them were made with different
// tokenizers.
std::vector<TokenShard> open_token_shards(const std::vector<std::filesystem::path>& paths,
                                          const TokenShard* like = nullptr);

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
