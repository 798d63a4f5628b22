#include "data/token_shard.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <utility>

#include "core/error.h"
#include "core/hexadecimal.h"
#include "data/checksum.h"
#include "data/token_shard_format.h"

namespace fathom::data {
namespace {

constexpr std::int64_t kMaxVocabSize = std::int64_t{1} << 30;
// So that sums of two of them cannot overflow.
constexpr std::int64_t kMaxCount = std::int64_t{1} << 60;
constexpr std::int64_t kMaxBlockTokens = std::int64_t{1} << 24;

// A part of what the process may have open; the rest is for other sources, and for libraries.
std::shared_ptr<OpenFiles<InputFile>> make_open_files() {
  constexpr std::int64_t kPart = 4;
  return std::make_shared<OpenFiles<InputFile>>(
      static_cast<std::size_t>(std::max<std::int64_t>(1, open_file_limit() / kPart)));
}

template <class Element>
void widen(std::span<const std::byte> bytes, std::span<std::int32_t> out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Element element{};
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    out[i] = static_cast<std::int32_t>(element);
  }
}

std::int32_t special_token(const Hdf5Reader& file, const std::string& path, const std::string& name,
                           std::int64_t vocab_size) {
  const std::int64_t token = file.integer_attribute(name);
  if (token < -1 || token >= vocab_size) {
    throw IoError(concat(path, ": ", name, " is ", token, ", want -1 (none) to ", vocab_size - 1));
  }
  return static_cast<std::int32_t>(token);
}

}  // namespace

TokenShard::TokenShard(const std::filesystem::path& path, const TokenShard* like)
    : path_(path), files_(like != nullptr ? like->files_ : make_open_files()) {
  Vocabulary vocabulary;
  {
    const Hdf5Reader header(path);
    file_bytes_ = header.file_bytes();
    vocabulary = read_header(header);
  }
  if (like != nullptr && like->vocabulary().vocab_size == vocabulary.vocab_size &&
      like->vocabulary().tokenizer_hash == vocabulary.tokenizer_hash &&
      like->vocabulary().special_tokens == vocabulary.special_tokens &&
      like->text_bytes_per_token_.checksum == text_bytes_per_token_.checksum) {
    vocabulary_ = like->vocabulary_;
    return;
  }
  vocabulary.text_bytes_per_token = read_text_bytes_per_token();
  vocabulary_ = std::make_shared<const Vocabulary>(std::move(vocabulary));
}

Vocabulary TokenShard::read_header(const Hdf5Reader& file) {
  const std::string path = path_.string();
  if (!file.has_attribute("format") || file.text_attribute("format") != kTokenShardFormat) {
    throw ConfigError(concat(path, ": not a token shard; `fathom tokenize` makes them"));
  }
  const std::int64_t version = file.integer_attribute("format_version");
  if (version < 1 || version > kTokenShardVersion) {
    throw ConfigError(concat(path, ": token shard of format version ", version,
                             ", this program reads version ", kTokenShardVersion));
  }
  const std::int64_t vocab_size = file.integer_attribute("vocab_size");
  const std::int64_t num_tokens = file.integer_attribute("num_tokens");
  const std::int64_t num_documents = file.integer_attribute("num_documents");
  num_bytes_ = file.integer_attribute("num_bytes");
  block_tokens_ = file.integer_attribute("checksum_block_tokens");
  const auto is_count = [](std::int64_t value) { return value >= 0 && value <= kMaxCount; };
  if (vocab_size < 1 || vocab_size > kMaxVocabSize || !is_count(num_tokens) ||
      !is_count(num_documents) || !is_count(num_bytes_) || block_tokens_ < 1 ||
      block_tokens_ > kMaxBlockTokens) {
    throw IoError(concat(path, ": impossible numbers: vocab_size ", vocab_size, ", num_tokens ",
                         num_tokens, ", num_documents ", num_documents, ", num_bytes ", num_bytes_,
                         ", checksum_block_tokens ", block_tokens_));
  }
  text_bytes_per_token_ = find_table(file, "text_bytes_per_token", ElementType::kInt32, vocab_size);
  find_datasets(file, num_tokens, num_documents);
  return {.vocab_size = static_cast<std::int32_t>(vocab_size),
          .tokenizer_hash = file.text_attribute("tokenizer_hash"),
          .special_tokens = {.bos = special_token(file, path, "bos_token", vocab_size),
                             .eos = special_token(file, path, "eos_token", vocab_size),
                             .pad = special_token(file, path, "pad_token", vocab_size),
                             .fim_begin = special_token(file, path, "fim_begin_token", vocab_size),
                             .fim_hole = special_token(file, path, "fim_hole_token", vocab_size),
                             .fim_end = special_token(file, path, "fim_end_token", vocab_size)},
          .text_bytes_per_token = {}};
}

void TokenShard::find_datasets(const Hdf5Reader& file, std::int64_t num_tokens,
                               std::int64_t num_documents) {
  tokens_ = file.dataset("tokens");
  if (tokens_.num_elements != num_tokens ||
      (tokens_.type != ElementType::kUint16 && tokens_.type != ElementType::kUint32)) {
    throw IoError(concat(path_.string(), ": dataset tokens has ", tokens_.num_elements,
                         " elements, want ", num_tokens, " of uint16 or uint32"));
  }
  const std::int64_t num_blocks =
      num_tokens / block_tokens_ + (num_tokens % block_tokens_ != 0 ? 1 : 0);
  token_checksums_ = find_table(file, "token_checksums", ElementType::kUint64, num_blocks);
  document_offsets_ = find_table(file, "document_offsets", ElementType::kInt64, num_documents + 1);
  document_bytes_ = find_table(file, "document_bytes", ElementType::kInt64, num_documents);
}

TokenShard::Table TokenShard::find_table(const Hdf5Reader& file, std::string_view name,
                                         ElementType type, std::int64_t size) const {
  const Hdf5Reader::Dataset place = file.dataset(std::string(name));
  // The reader has held num_elements against the size of the file: what is read later is there.
  if (place.type != type || place.num_elements != size) {
    throw IoError(concat(path_.string(), ": dataset ", name, " has ", place.num_elements,
                         " elements, want ", size, ", or elements of another type"));
  }
  return {name, place,
          std::bit_cast<std::uint64_t>(file.integer_attribute(concat(name, "_checksum")))};
}

template <class Element>
std::vector<Element> TokenShard::read_table(const Table& table) const {
  std::vector<Element> elements(static_cast<std::size_t>(table.place.num_elements));
  file()->read_at(table.place.file_offset, std::as_writable_bytes(std::span(elements)));
  const std::uint64_t found = checksum(std::as_bytes(std::span(std::as_const(elements))));
  if (found != table.checksum) {
    refuse_content(concat("dataset ", table.name, " has the checksum ", hexadecimal(found),
                          ", want ", hexadecimal(table.checksum)));
  }
  return elements;
}

std::vector<std::int32_t> TokenShard::read_text_bytes_per_token() const {
  std::vector<std::int32_t> bytes = read_table<std::int32_t>(text_bytes_per_token_);
  const auto negative =
      std::find_if(bytes.begin(), bytes.end(), [](std::int32_t count) { return count < 0; });
  if (negative != bytes.end()) {
    refuse_content(concat("token ", negative - bytes.begin(), " stands for ", *negative,
                          " bytes of text, less than 0"));
  }
  return bytes;
}

std::vector<std::int64_t> TokenShard::read_document_offsets() const {
  std::vector<std::int64_t> offsets = read_table<std::int64_t>(document_offsets_);
  if (offsets.front() != 0 || offsets.back() != num_tokens()) {
    refuse_content(concat("documents go from token ", offsets.front(), " to ", offsets.back(),
                          ", want 0 to ", num_tokens()));
  }
  const auto bad = std::adjacent_find(offsets.begin(), offsets.end(), std::greater<>());
  if (bad != offsets.end()) {
    refuse_content(
        concat("document ", bad - offsets.begin(), " goes from token ", bad[0], " to ", bad[1]));
  }
  return offsets;
}

std::vector<std::int64_t> TokenShard::read_document_bytes() const {
  std::vector<std::int64_t> bytes = read_table<std::int64_t>(document_bytes_);
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] < 0 || bytes[i] > num_bytes_ - sum) {
      refuse_content(concat("document ", i, " has ", bytes[i], " bytes"));
    }
    sum += bytes[i];
  }
  if (sum != num_bytes_) {
    refuse_content(concat("documents have ", sum, " bytes, want num_bytes = ", num_bytes_));
  }
  return bytes;
}

TokenRange TokenShard::document(std::int64_t index) const {
  FATHOM_CHECK(index >= 0 && index < num_documents(), index, " of ", num_documents());
  std::array<std::int64_t, 2> ends{};
  constexpr auto kWidth = static_cast<std::int64_t>(sizeof(std::int64_t));
  file()->read_at(document_offsets_.place.file_offset + index * kWidth,
                  std::as_writable_bytes(std::span(ends)));
  if (ends[0] < 0 || ends[1] < ends[0] || num_tokens() < ends[1]) {
    refuse_content(concat("document ", index, " goes from token ", ends[0], " to ", ends[1], " of ",
                          num_tokens()));
  }
  return {ends[0], ends[1] - ends[0]};
}

// A file that was closed in between must still be the same one.
std::shared_ptr<const InputFile> TokenShard::file() const {
  return files_->get(path_, [&] {
    InputFile file(path_);
    if (const std::int64_t size = file.size_bytes(); size != file_bytes_) {
      throw IoError(concat(path_.string(), " has changed while this program used it: ", size,
                           " bytes, before ", file_bytes_));
    }
    return file;
  });
}

// The tokens of a block as they are stored, checked.
std::span<const std::byte> TokenShard::read_block(std::int64_t block,
                                                  std::vector<std::byte>& room) const {
  const std::int64_t begin = block * block_tokens_;
  const std::int64_t size = std::min(block_tokens_, num_tokens() - begin);
  const auto width = static_cast<std::int64_t>(element_bytes(tokens_.type));
  room.resize(static_cast<std::size_t>(size * width));
  const std::shared_ptr<const InputFile> source = file();
  source->read_at(tokens_.file_offset + begin * width, room);
  std::array<std::uint64_t, 1> want{};
  source->read_at(
      token_checksums_.place.file_offset + block * static_cast<std::int64_t>(sizeof(want)),
      std::as_writable_bytes(std::span(want)));
  if (checksum(std::span<const std::byte>(room)) != want[0]) {
    refuse_content(concat("tokens ", begin, " to ", begin + size - 1,
                          " do not match the checksum of their block"));
  }
  return room;
}

void TokenShard::refuse_token(std::int64_t index, std::int64_t token) const {
  const std::vector<std::int64_t> offsets = read_document_offsets();
  const auto after = std::upper_bound(offsets.begin(), offsets.end(), index);
  refuse_content(concat("token ", index, " (document ", after - offsets.begin() - 1,
                        ") has the id ", token, ", the vocabulary has ", vocabulary().vocab_size,
                        " entries"));
}

// Reading again would find the same.
void TokenShard::refuse_content(const std::string& what) const {
  throw ConfigError(concat(path_.string(), ": damaged: ", what,
                           ": write this shard anew with `fathom tokenize`, or take it out of the "
                           "config"));
}

std::uint64_t TokenShard::contents() const noexcept {
  const std::array<std::uint64_t, 4> parts{static_cast<std::uint64_t>(num_tokens()),
                                           static_cast<std::uint64_t>(num_documents()),
                                           token_checksums_.checksum, document_offsets_.checksum};
  return checksum(std::as_bytes(std::span(parts)));
}

void TokenShard::read_tokens(std::int64_t begin, std::span<std::int32_t> out) const {
  const auto size = static_cast<std::int64_t>(out.size());
  FATHOM_CHECK(begin >= 0 && begin <= num_tokens() && size <= num_tokens() - begin, begin, " + ",
               size, " of ", num_tokens(), " tokens of ", path_.string());
  const std::size_t width = element_bytes(tokens_.type);
  std::vector<std::byte> room;
  for (std::int64_t done = 0; done < size;) {
    const std::int64_t block = (begin + done) / block_tokens_;
    const std::int64_t skipped = begin + done - block * block_tokens_;
    const std::int64_t count = std::min(block_tokens_ - skipped, size - done);
    const std::span<const std::byte> bytes = read_block(block, room)
                                                 .subspan(static_cast<std::size_t>(skipped) * width,
                                                          static_cast<std::size_t>(count) * width);
    const std::span<std::int32_t> part =
        out.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count));
    if (tokens_.type == ElementType::kUint16) {
      widen<std::uint16_t>(bytes, part);
    } else {
      widen<std::uint32_t>(bytes, part);
    }
    done += count;
  }
  const auto bad = std::find_if(out.begin(), out.end(), [&](std::int32_t token) {
    return token < 0 || token >= vocabulary().vocab_size;
  });
  if (bad != out.end()) {
    refuse_token(begin + (bad - out.begin()), *bad);
  }
}

void TokenShard::verify() const {
  read_text_bytes_per_token();
  read_document_offsets();
  read_document_bytes();
  read_table<std::uint64_t>(token_checksums_);
  std::vector<std::int32_t> tokens;
  for (std::int64_t begin = 0; begin < num_tokens(); begin += block_tokens_) {
    tokens.resize(static_cast<std::size_t>(std::min(block_tokens_, num_tokens() - begin)));
    read_tokens(begin, tokens);
  }
}

}  // namespace fathom::data
