#include "data/packing.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>
#include <numeric>
#include <thread>

#include "core/error.h"

namespace fathom::data {
namespace {

std::int64_t num_fim_documents(const DocumentSet& documents, const PackingOptions& options) {
  return std::llround(options.fim_rate * static_cast<double>(documents.num_documents()));
}

std::int64_t added_tokens(const PackingOptions& options) {
  return options.start == DocumentStart::kBos ? 2 : 1;
}

// Threads beside the caller's; none where starting one takes as long as what it would do.
std::int64_t num_helpers(std::int64_t num_documents) {
  constexpr std::int64_t kDocumentsForOne = std::int64_t{1} << 16;
  constexpr std::int64_t kMost = 15;
  const std::int64_t others = std::int64_t{std::thread::hardware_concurrency()} - 1;
  return std::clamp<std::int64_t>(std::min(num_documents / kDocumentsForOne, others), 0, kMost);
}

RandomSource random_of(const PackingKey& key, std::string_view what) {
  return RandomSource(key.seed, concat("data/", what, "/", key.source, "/epoch/", key.epoch));
}

}  // namespace

void check_packing(const DocumentSet& documents, const PackingOptions& options) {
  const SpecialTokenIds& tokens = documents.vocabulary().special_tokens;
  const std::string shard = documents.shards().front().path().string();
  if (tokens.eos < 0) {
    throw ConfigError(concat("the tokenizer of ", shard, " has no end-of-sentence token"));
  }
  if (options.start == DocumentStart::kBos && tokens.bos < 0) {
    throw ConfigError(concat("data.document_start is BOS, but the tokenizer of ", shard,
                             " has no begin-of-sentence token"));
  }
  if (!(options.fim_rate >= 0.0 && options.fim_rate <= 1.0)) {
    throw ConfigError(concat("fim_rate is ", options.fim_rate, ", want 0 to 1"));
  }
  if (options.fim_rate > 0.0 && !tokens.has_fim()) {
    throw ConfigError(concat("fim_rate is ", options.fim_rate, ", but the tokenizer of ", shard,
                             " has no fill-in-the-middle tokens"));
  }
}

PackedEpoch::PackedEpoch(const DocumentSet& documents, const PackingOptions& options,
                         const PackingKey& key)
    : documents_(&documents),
      options_(options),
      num_fim_(num_fim_documents(documents, options)),
      order_(documents.num_documents(), random_of(key, "document_order")),
      fim_order_(documents.num_documents(), random_of(key, "fim_documents")),
      fim_cuts_(random_of(key, "fim_cuts")) {
  check_packing(documents, options);
  starts_ = find_starts();
}

// Goes through the documents as they are stored, not as the epoch has them: files are read from
// front to back, and what is written at random places is small. Sums of integers do not depend on
// which thread takes which shard.
std::vector<std::int64_t> PackedEpoch::find_starts() const {
  const std::int64_t num_strides = (documents_->num_documents() + kStride - 1) / kStride;
  std::vector<std::int64_t> starts(static_cast<std::size_t>(num_strides) + 1);
  std::atomic<std::size_t> next_shard{0};
  const auto work = [&] {
    while (true) {
      const std::size_t shard = next_shard.fetch_add(1);
      if (shard >= documents_->shards().size()) {
        return;
      }
      add_tokens_of(shard, std::span(starts).subspan(1));
    }
  };
  std::vector<std::future<void>> helpers(
      static_cast<std::size_t>(num_helpers(documents_->num_documents())));
  for (std::future<void>& helper : helpers) {
    helper = std::async(std::launch::async, work);
  }
  work();
  for (std::future<void>& helper : helpers) {
    helper.get();
  }
  std::partial_sum(starts.begin(), starts.end(), starts.begin());
  return starts;
}

void PackedEpoch::add_tokens_of(std::size_t shard, std::span<std::int64_t> sums) const {
  const std::vector<std::int64_t> offsets = documents_->shards()[shard].read_document_offsets();
  std::int64_t document = documents_->first_document(shard);
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i, ++document) {
    const std::int64_t position = position_of(document);
    const std::atomic_ref sum(sums[static_cast<std::size_t>(position / kStride)]);
    sum.fetch_add(stream_tokens(offsets[i + 1] - offsets[i], is_fim_at(position)),
                  std::memory_order_relaxed);
  }
}

std::int64_t PackedEpoch::num_tokens(const DocumentSet& documents, const PackingOptions& options) {
  return documents.num_tokens() + documents.num_documents() * added_tokens(options) +
         num_fim_documents(documents, options) * kFimTokens;
}

std::int64_t PackedEpoch::document_at(std::int64_t position) const noexcept {
  return options_.order == DocumentOrder::kShuffled ? order_(position) : position;
}

std::int64_t PackedEpoch::position_of(std::int64_t document) const noexcept {
  return options_.order == DocumentOrder::kShuffled ? order_.inverse(document) : document;
}

bool PackedEpoch::is_fim_at(std::int64_t position) const noexcept {
  return num_fim_ > 0 && fim_order_(position) < num_fim_;
}

std::int64_t PackedEpoch::stream_tokens(std::int64_t num_tokens, bool is_fim) const noexcept {
  return num_tokens + added_tokens(options_) + (is_fim ? kFimTokens : 0);
}

PackedEpoch::Entry PackedEpoch::entry_at(std::int64_t position) const {
  const std::int64_t document = document_at(position);
  const DocumentSet::Place place = documents_->place_of(document);
  return {.document = document,
          .shard = place.shard,
          .tokens = place.shard->document(place.document),
          .is_fim = is_fim_at(position)};
}

void PackedEpoch::read_document(const Entry& entry, std::int64_t begin,
                                std::span<std::int32_t> out) const {
  const SpecialTokenIds& special = documents_->vocabulary().special_tokens;
  std::vector<TokenPiece> pieces;
  if (options_.start == DocumentStart::kBos) {
    pieces.push_back({.added_token = special.bos});
  }
  if (entry.is_fim) {
    append_fim_pieces(entry.tokens.size, fim_cuts_, static_cast<std::uint64_t>(entry.document),
                      special, pieces);
  } else {
    pieces.push_back({.begin = 0, .size = entry.tokens.size});
  }
  pieces.push_back({.added_token = special.eos});
  const std::int64_t end = begin + static_cast<std::int64_t>(out.size());
  std::int64_t piece_begin = 0;
  for (const TokenPiece& piece : pieces) {
    const std::int64_t from = std::max(begin, piece_begin);
    const std::int64_t size = std::min(end, piece_begin + piece.size) - from;
    if (size > 0) {
      const std::span<std::int32_t> place =
          out.subspan(static_cast<std::size_t>(from - begin), static_cast<std::size_t>(size));
      if (piece.added_token >= 0) {
        place[0] = piece.added_token;
      } else {
        entry.shard->read_tokens(entry.tokens.begin + piece.begin + from - piece_begin, place);
      }
    }
    piece_begin += piece.size;
  }
}

void PackedEpoch::read(std::int64_t begin, std::span<std::int32_t> out,
                       std::vector<Part>& parts) const {
  const auto size = static_cast<std::int64_t>(out.size());
  FATHOM_CHECK(begin >= 0 && begin + size <= num_tokens(), begin, " + ", size, " of ",
               num_tokens());
  parts.clear();
  const auto known = std::upper_bound(starts_.begin(), starts_.end() - 1, begin) - 1;
  std::int64_t position = (known - starts_.begin()) * kStride;
  std::int64_t start = *known;
  for (std::int64_t done = 0; done < size; ++position) {
    const Entry entry = entry_at(position);
    const std::int64_t num_tokens_here = stream_tokens(entry.tokens.size, entry.is_fim);
    const std::int64_t from = begin + done - start;
    const std::int64_t count = std::min(num_tokens_here - from, size - done);
    if (count > 0) {
      read_document(entry, from,
                    out.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count)));
      parts.push_back({entry.document, from, count, entry.is_fim});
      done += count;
    }
    start += num_tokens_here;
  }
}

}  // namespace fathom::data
