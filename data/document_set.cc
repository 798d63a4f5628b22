#include "data/document_set.h"

#include <algorithm>

#include "core/error.h"

namespace fathom::data {

DocumentSet::DocumentSet(const std::vector<std::filesystem::path>& paths, const TokenShard* like)
    : shards_(open_token_shards(paths, like)) {
  first_documents_.push_back(0);
  for (const TokenShard& shard : shards_) {
    first_documents_.push_back(first_documents_.back() + shard.num_documents());
    num_tokens_ += shard.num_tokens();
    num_bytes_ += shard.num_bytes();
  }
  if (num_tokens_ == 0) {
    throw ConfigError(concat(shards_.front().path().string(), " and the ", shards_.size() - 1,
                             " other shards of its set hold no tokens"));
  }
}

std::uint64_t DocumentSet::contents() const {
  Checksum64 all;
  for (const TokenShard& shard : shards_) {
    const std::uint64_t one = shard.contents();
    all.add(std::as_bytes(std::span(&one, 1)));
  }
  return all.value();
}

DocumentSet::Place DocumentSet::place_of(std::int64_t document) const {
  FATHOM_CHECK(document >= 0 && document < num_documents(), document, " of ", num_documents());
  const auto after =
      std::upper_bound(first_documents_.begin(), first_documents_.end(), document) - 1;
  const auto shard = static_cast<std::size_t>(after - first_documents_.begin());
  return {&shards_[shard], document - *after};
}

}  // namespace fathom::data
