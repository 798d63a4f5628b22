#include "data/document_set.h"

#include <algorithm>

#include "core/error.h"

namespace fathom::data {

DocumentSet::DocumentSet(const std::vector<std::filesystem::path>& paths)
    : shards_(open_token_shards(paths)) {
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

DocumentSet::Place DocumentSet::place_of(std::int64_t document) const {
  FATHOM_CHECK(document >= 0 && document < num_documents(), document, " of ", num_documents());
  const auto after =
      std::upper_bound(first_documents_.begin(), first_documents_.end(), document) - 1;
  const auto shard = static_cast<std::size_t>(after - first_documents_.begin());
  return {&shards_[shard], document - *after};
}

std::int64_t DocumentSet::document_tokens(std::int64_t document) const {
  const Place place = place_of(document);
  const auto offsets =
      place.shard->document_offsets().subspan(static_cast<std::size_t>(place.document), 2);
  return offsets[1] - offsets[0];
}

void DocumentSet::read(std::int64_t document, std::int64_t begin,
                       std::span<std::int32_t> out) const {
  const Place place = place_of(document);
  const std::int64_t offset =
      place.shard->document_offsets()[static_cast<std::size_t>(place.document)];
  place.shard->read_tokens(offset + begin, out);
}

}  // namespace fathom::data
