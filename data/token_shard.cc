#include "data/token_shard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "data/checksum.h"
#include "data/token_shard_format.h"

namespace fathom::data {
namespace {

constexpr std::int64_t kMaxVocabSize = std::int64_t{1} << 30;
// So that sums of two of them cannot overflow.
constexpr std::int64_t kMaxCount = std::int64_t{1} << 60;
constexpr std::int64_t kMaxBlockTokens = std::int64_t{1} << 24;

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

TokenShard::TokenShard(const std::filesystem::path& path) : path_(path) {
  const Hdf5Reader file(path);
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) {
    throw IoError(concat("cannot open ", path.string(), ": ", std::strerror(errno)));
  }
  try {
    read_header(file);
    read_tables(file);
    check_tables();
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
  is_block_checked_ = std::make_unique<std::atomic<bool>[]>(token_checksums_.size());
}

TokenShard::TokenShard(TokenShard&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      vocabulary_(std::move(other.vocabulary_)),
      declared_tokens_(other.declared_tokens_),
      declared_documents_(other.declared_documents_),
      num_bytes_(other.num_bytes_),
      block_tokens_(other.block_tokens_),
      tokens_(other.tokens_),
      token_checksums_(std::move(other.token_checksums_)),
      document_offsets_(std::move(other.document_offsets_)),
      document_bytes_(std::move(other.document_bytes_)),
      is_block_checked_(std::move(other.is_block_checked_)) {}

TokenShard::~TokenShard() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void TokenShard::read_header(const Hdf5Reader& file) {
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
  declared_tokens_ = file.integer_attribute("num_tokens");
  declared_documents_ = file.integer_attribute("num_documents");
  num_bytes_ = file.integer_attribute("num_bytes");
  block_tokens_ = file.integer_attribute("checksum_block_tokens");
  const auto is_count = [](std::int64_t value) { return value >= 0 && value <= kMaxCount; };
  if (vocab_size < 1 || vocab_size > kMaxVocabSize || !is_count(declared_tokens_) ||
      !is_count(declared_documents_) || !is_count(num_bytes_) || block_tokens_ < 1 ||
      block_tokens_ > kMaxBlockTokens) {
    throw IoError(concat(path, ": impossible numbers: vocab_size ", vocab_size, ", num_tokens ",
                         declared_tokens_, ", num_documents ", declared_documents_, ", num_bytes ",
                         num_bytes_, ", checksum_block_tokens ", block_tokens_));
  }
  vocabulary_.vocab_size = static_cast<std::int32_t>(vocab_size);
  vocabulary_.tokenizer_hash = file.text_attribute("tokenizer_hash");
  vocabulary_.special_tokens = {
      .bos = special_token(file, path, "bos_token", vocab_size),
      .eos = special_token(file, path, "eos_token", vocab_size),
      .pad = special_token(file, path, "pad_token", vocab_size),
      .fim_begin = special_token(file, path, "fim_begin_token", vocab_size),
      .fim_hole = special_token(file, path, "fim_hole_token", vocab_size),
      .fim_end = special_token(file, path, "fim_end_token", vocab_size)};
}

void TokenShard::read_tables(const Hdf5Reader& file) {
  tokens_ = file.dataset("tokens");
  if (tokens_.num_elements != declared_tokens_ ||
      (tokens_.type != ElementType::kUint16 && tokens_.type != ElementType::kUint32)) {
    throw IoError(concat(path_.string(), ": dataset tokens has ", tokens_.num_elements,
                         " elements, want ", declared_tokens_, " of uint16 or uint32"));
  }
  const std::int64_t num_blocks =
      declared_tokens_ / block_tokens_ + (declared_tokens_ % block_tokens_ != 0 ? 1 : 0);
  token_checksums_ =
      read_table<std::uint64_t>(file, "token_checksums", ElementType::kUint64, num_blocks);
  vocabulary_.text_bytes_per_token = read_table<std::int32_t>(
      file, "text_bytes_per_token", ElementType::kInt32, vocabulary_.vocab_size);
  document_offsets_ = read_table<std::int64_t>(file, "document_offsets", ElementType::kInt64,
                                               declared_documents_ + 1);
  document_bytes_ =
      read_table<std::int64_t>(file, "document_bytes", ElementType::kInt64, declared_documents_);
}

template <class Element>
std::vector<Element> TokenShard::read_table(const Hdf5Reader& file, const std::string& name,
                                            ElementType type, std::int64_t size) const {
  const Hdf5Reader::Dataset dataset = file.dataset(name);
  // The reader has held num_elements against the size of the file: what is allocated here is there.
  if (dataset.type != type || dataset.num_elements != size) {
    throw IoError(concat(path_.string(), ": dataset ", name, " has ", dataset.num_elements,
                         " elements, want ", size, ", or elements of another type"));
  }
  std::vector<Element> table(static_cast<std::size_t>(size));
  read_bytes(dataset.file_offset, std::as_writable_bytes(std::span(table)));
  const auto want = std::bit_cast<std::uint64_t>(file.integer_attribute(name + "_checksum"));
  const std::uint64_t found = checksum(std::as_bytes(std::span(std::as_const(table))));
  if (found != want) {
    throw IoError(concat(path_.string(), ": dataset ", name, " is damaged: checksum ",
                         to_hex(found), ", want ", to_hex(want)));
  }
  return table;
}

void TokenShard::check_tables() const {
  const std::string path = path_.string();
  if (document_offsets_.front() != 0 || document_offsets_.back() != declared_tokens_) {
    throw IoError(concat(path, ": documents go from token ", document_offsets_.front(), " to ",
                         document_offsets_.back(), ", want 0 to ", declared_tokens_));
  }
  std::int64_t num_bytes = 0;
  for (std::size_t i = 0; i < document_bytes_.size(); ++i) {
    if (document_offsets_[i] > document_offsets_[i + 1] || document_bytes_[i] < 0 ||
        document_bytes_[i] > num_bytes_ - num_bytes) {
      throw IoError(concat(path, ": document ", i, " goes from token ", document_offsets_[i],
                           " to ", document_offsets_[i + 1], " and has ", document_bytes_[i],
                           " bytes"));
    }
    num_bytes += document_bytes_[i];
  }
  const auto negative =
      std::find_if(vocabulary_.text_bytes_per_token.begin(), vocabulary_.text_bytes_per_token.end(),
                   [](std::int32_t bytes) { return bytes < 0; });
  if (num_bytes != num_bytes_ || negative != vocabulary_.text_bytes_per_token.end()) {
    throw IoError(concat(path, ": documents have ", num_bytes, " bytes, want num_bytes = ",
                         num_bytes_, ", and no token less than 0 bytes"));
  }
}

void TokenShard::read_bytes(std::int64_t file_offset, std::span<std::byte> out) const {
  for (std::size_t done = 0; done < out.size();) {
    const ssize_t count = ::pread(descriptor_, out.data() + done, out.size() - done,
                                  file_offset + static_cast<std::int64_t>(done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      throw IoError(concat("cannot read ", out.size(), " bytes at ", file_offset, " of ",
                           path_.string(), ": ",
                           count == 0 ? "the file has become shorter" : std::strerror(errno)));
    }
    done += static_cast<std::size_t>(count);
  }
}

void TokenShard::check_block(std::int64_t block) const {
  std::atomic<bool>& is_checked = is_block_checked_[static_cast<std::size_t>(block)];
  if (is_checked.load(std::memory_order_relaxed)) {
    return;
  }
  const auto width = static_cast<std::int64_t>(element_bytes(tokens_.type));
  const std::int64_t begin = block * block_tokens_;
  const std::int64_t size = std::min(block_tokens_, declared_tokens_ - begin);
  std::vector<std::byte> bytes(static_cast<std::size_t>(size * width));
  read_bytes(tokens_.file_offset + begin * width, bytes);
  const std::uint64_t found = checksum(std::span<const std::byte>(bytes));
  const std::uint64_t want = token_checksums_[static_cast<std::size_t>(block)];
  if (found != want) {
    refuse_content(concat("tokens ", begin, " to ", begin + size - 1, " have the checksum ",
                          to_hex(found), ", want ", to_hex(want)));
  }
  is_checked.store(true, std::memory_order_relaxed);
}

void TokenShard::refuse_token(std::int64_t index, std::int64_t token) const {
  const auto after = std::upper_bound(document_offsets_.begin(), document_offsets_.end(), index);
  refuse_content(concat("token ", index, " (document ", after - document_offsets_.begin() - 1,
                        ") has the id ", token, ", the vocabulary has ", vocabulary_.vocab_size,
                        " entries"));
}

// Reading again would find the same.
void TokenShard::refuse_content(const std::string& what) const {
  throw ConfigError(concat(path_.string(), ": damaged: ", what,
                           ": write this shard anew with `fathom tokenize`, or take it out of the "
                           "config"));
}

void TokenShard::read_tokens(std::int64_t begin, std::span<std::int32_t> out) const {
  const auto size = static_cast<std::int64_t>(out.size());
  FATHOM_CHECK(begin >= 0 && begin <= declared_tokens_ && size <= declared_tokens_ - begin, begin,
               " + ", size, " of ", declared_tokens_, " tokens of ", path_.string());
  if (size == 0) {
    return;
  }
  for (std::int64_t block = begin / block_tokens_; block <= (begin + size - 1) / block_tokens_;
       ++block) {
    check_block(block);
  }
  // Read in the narrow type into the end of the room for the wide one; widening goes from front to
  // back.
  const std::size_t width = element_bytes(tokens_.type);
  const std::span<std::byte> bytes =
      std::as_writable_bytes(out).last(static_cast<std::size_t>(size) * width);
  read_bytes(tokens_.file_offset + begin * static_cast<std::int64_t>(width), bytes);
  if (tokens_.type == ElementType::kUint16) {
    widen<std::uint16_t>(bytes, out);
  } else {
    widen<std::uint32_t>(bytes, out);
  }
  for (std::int64_t i = 0; i < size; ++i) {
    const std::int32_t token = out[static_cast<std::size_t>(i)];
    if (token < 0 || token >= vocabulary_.vocab_size) {
      refuse_token(begin + i, token);
    }
  }
}

void TokenShard::verify() const {
  std::vector<std::int32_t> tokens;
  for (std::int64_t begin = 0; begin < declared_tokens_; begin += block_tokens_) {
    tokens.resize(static_cast<std::size_t>(std::min(block_tokens_, declared_tokens_ - begin)));
    read_tokens(begin, tokens);
  }
}

}  // namespace fathom::data
