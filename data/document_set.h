#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "data/token_shard.h"

namespace fathom::data {

// The documents of several shards as one list. All const functions may be called by several
// threads.
class DocumentSet {
 public:
  // Paths, and a shard to share with or null, as open_token_shards() takes them. Throws what it
  // throws, and ConfigError when there is no token in them.
  explicit DocumentSet(const std::vector<std::filesystem::path>& paths,
                       const TokenShard* like = nullptr);

  const Vocabulary& vocabulary() const noexcept { return shards_.front().vocabulary(); }
  std::span<const TokenShard> shards() const noexcept { return shards_; }
  std::int64_t num_documents() const noexcept { return first_documents_.back(); }
  std::int64_t num_tokens() const noexcept { return num_tokens_; }
  std::int64_t num_bytes() const noexcept { return num_bytes_; }
  // XXH3-64 of the shards' contents.
  std::uint64_t contents() const;

  // A document of the list, as a document of one of the shards.
  struct Place {
    const TokenShard* shard;
    std::int64_t document;
  };
  Place place_of(std::int64_t document) const;
  // The first document of a shard.
  std::int64_t first_document(std::size_t shard) const { return first_documents_[shard]; }

 private:
  std::vector<TokenShard> shards_;
  std::vector<std::int64_t> first_documents_;  // [num_shards + 1]
  std::int64_t num_tokens_ = 0;
  std::int64_t num_bytes_ = 0;
};

}  // namespace fathom::data
