#include <bit>
#include <limits>

#include "core/error.h"
#include "core/file.h"
#include "data/checksum.h"
#include "data/token_shard.h"
#include "data/token_shard_format.h"

namespace fathom::data {
namespace {

template <class Element>
std::span<const std::byte> bytes_of(const std::vector<Element>& elements) {
  return std::as_bytes(std::span(elements));
}

void check_content(const TokenShardContent& content) {
  const Vocabulary& vocabulary = content.vocabulary;
  FATHOM_CHECK(
      vocabulary.text_bytes_per_token.size() == static_cast<std::size_t>(vocabulary.vocab_size),
      vocabulary.text_bytes_per_token.size(), " of ", vocabulary.vocab_size);
  FATHOM_CHECK(
      content.document_offsets.size() == content.document_bytes.size() + 1 &&
          content.document_offsets.front() == 0 &&
          content.document_offsets.back() == static_cast<std::int64_t>(content.tokens.size()),
      content.document_offsets.size(), " offsets, ", content.document_bytes.size(), " documents, ",
      content.tokens.size(), " tokens");
  for (const std::int32_t token : content.tokens) {
    FATHOM_CHECK(token >= 0 && token < vocabulary.vocab_size, token, " of ", vocabulary.vocab_size);
  }
}

void add_special_tokens(Hdf5ImageWriter& file, const SpecialTokenIds& tokens) {
  file.add_attribute("bos_token", std::int64_t{tokens.bos});
  file.add_attribute("eos_token", std::int64_t{tokens.eos});
  file.add_attribute("pad_token", std::int64_t{tokens.pad});
  file.add_attribute("fim_begin_token", std::int64_t{tokens.fim_begin});
  file.add_attribute("fim_hole_token", std::int64_t{tokens.fim_hole});
  file.add_attribute("fim_end_token", std::int64_t{tokens.fim_end});
}

// A small dataset and, as an attribute, the checksum of its bytes.
template <class Element>
void add_table(Hdf5ImageWriter& file, const std::string& name, ElementType type,
               const std::vector<Element>& table) {
  file.add_attribute(name + "_checksum", std::bit_cast<std::int64_t>(checksum(bytes_of(table))));
  file.add_dataset(name, type, bytes_of(table));
}

template <class Element>
void add_tokens(Hdf5ImageWriter& file, ElementType type, std::span<const Element> tokens) {
  std::vector<std::uint64_t> checksums;
  for (std::size_t begin = 0; begin < tokens.size(); begin += kChecksumBlockTokens) {
    const std::size_t size = std::min<std::size_t>(kChecksumBlockTokens, tokens.size() - begin);
    checksums.push_back(checksum(std::as_bytes(tokens.subspan(begin, size))));
  }
  file.add_dataset("tokens", type, std::as_bytes(tokens));
  add_table(file, "token_checksums", ElementType::kUint64, checksums);
}

// A little more than the file will have.
std::size_t expected_bytes(const TokenShardContent& content, std::size_t token_bytes) {
  constexpr std::size_t kHeader = std::size_t{1} << 20;
  return kHeader + bytes_of(content.vocabulary.text_bytes_per_token).size() +
         bytes_of(content.document_offsets).size() + bytes_of(content.document_bytes).size() +
         content.tokens.size() * token_bytes +
         content.tokens.size() / kChecksumBlockTokens * sizeof(std::uint64_t);
}

}  // namespace

Vocabulary Vocabulary::of(const Tokenizer& tokenizer) {
  return {.vocab_size = tokenizer.vocab_size(),
          .tokenizer_hash = tokenizer.hash(),
          .special_tokens = tokenizer.special_tokens(),
          .text_bytes_per_token = tokenizer.text_bytes_per_token()};
}

void write_token_shard(const std::filesystem::path& path, const TokenShardContent& content) {
  check_content(content);
  std::int64_t num_bytes = 0;
  for (const std::int64_t bytes : content.document_bytes) {
    num_bytes += bytes;
  }
  const bool is_narrow =
      content.vocabulary.vocab_size <= std::numeric_limits<std::uint16_t>::max() + 1;
  Hdf5ImageWriter file(
      expected_bytes(content, is_narrow ? sizeof(std::uint16_t) : sizeof(std::uint32_t)));
  file.add_attribute("format", std::string(kTokenShardFormat));
  file.add_attribute("format_version", kTokenShardVersion);
  file.add_attribute("vocab_size", std::int64_t{content.vocabulary.vocab_size});
  file.add_attribute("tokenizer_hash", content.vocabulary.tokenizer_hash);
  file.add_attribute("num_tokens", static_cast<std::int64_t>(content.tokens.size()));
  file.add_attribute("num_documents", static_cast<std::int64_t>(content.document_bytes.size()));
  file.add_attribute("num_bytes", num_bytes);
  file.add_attribute("checksum_block_tokens", kChecksumBlockTokens);
  add_special_tokens(file, content.vocabulary.special_tokens);
  add_table(file, "text_bytes_per_token", ElementType::kInt32,
            content.vocabulary.text_bytes_per_token);
  add_table(file, "document_offsets", ElementType::kInt64, content.document_offsets);
  add_table(file, "document_bytes", ElementType::kInt64, content.document_bytes);
  if (is_narrow) {
    const std::vector<std::uint16_t> narrow(content.tokens.begin(), content.tokens.end());
    add_tokens<std::uint16_t>(file, ElementType::kUint16, narrow);
  } else {
    add_tokens<std::int32_t>(file, ElementType::kUint32, content.tokens);  // none is negative
  }
  write_file_atomically(path, file.finish());
}

}  // namespace fathom::data
