#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/rng.h"
#include "data/document_set.h"
#include "data/document_start.h"
#include "data/fim.h"
#include "data/permutation.h"

namespace fathom::data {

enum class DocumentOrder {
  kAsStored,
  kShuffled,  // another permutation in every epoch
};

struct PackingOptions {
  DocumentOrder order = DocumentOrder::kShuffled;
  DocumentStart start = DocumentStart::kPlain;
  // Share of the documents that are rearranged, exactly: round(rate * documents) in every epoch.
  double fim_rate = 0.0;
};

// Which order and which cuts: the same stream for the same key.
struct PackingKey {
  std::uint64_t seed = 0;
  std::string source = {};
  std::int64_t epoch = 0;
};

// Throws ConfigError when the vocabulary lacks a special token that the options need, or when the
// rate is none.
void check_packing(const DocumentSet& documents, const PackingOptions& options);

// All documents of a set one after another, in the order of the epoch, each as [bos] tokens eos,
// some of them rearranged for fill-in-the-middle: one long stream of tokens, of which any part is
// computed by itself. Every epoch is equally long. To set it up all tables of documents are read
// once, by up to 16 threads, and checked; it holds 8 bytes for every kStride documents, and looks
// the others up in the files. Const functions may be called by several threads.
class PackedEpoch {
 public:
  // `documents` must outlive it. Throws as check_packing() and TokenShard::read_document_offsets().
  PackedEpoch(const DocumentSet& documents, const PackingOptions& options, const PackingKey& key);

  // Of any epoch of these documents.
  static std::int64_t num_tokens(const DocumentSet& documents, const PackingOptions& options);
  std::int64_t num_tokens() const noexcept { return starts_.back(); }

  // A document, or what is in the part of the stream that was read.
  struct Part {
    std::int64_t document = 0;  // of the set
    std::int64_t begin = 0;     // first token, counted from the document's start in the stream
    std::int64_t size = 0;      // tokens
    bool is_fim = false;
  };
  // Tokens begin .. begin + out.size() - 1 of the stream, and which documents they are of, in
  // order. Throws as TokenShard::read_tokens().
  void read(std::int64_t begin, std::span<std::int32_t> out, std::vector<Part>& parts) const;

 private:
  static constexpr std::int64_t kStride = 128;

  // A document of the epoch, and where its tokens lie.
  struct Entry {
    std::int64_t document = 0;
    const TokenShard* shard = nullptr;
    TokenRange tokens;
    bool is_fim = false;
  };

  std::int64_t document_at(std::int64_t position) const noexcept;
  std::int64_t position_of(std::int64_t document) const noexcept;
  bool is_fim_at(std::int64_t position) const noexcept;
  std::int64_t stream_tokens(std::int64_t num_tokens, bool is_fim) const noexcept;
  std::vector<std::int64_t> find_starts() const;
  // To the sums of all strides, [num_strides].
  void add_tokens_of(std::size_t shard, std::span<std::int64_t> sums) const;
  Entry entry_at(std::int64_t position) const;
  void read_document(const Entry& entry, std::int64_t begin, std::span<std::int32_t> out) const;

  const DocumentSet* documents_;
  PackingOptions options_;
  std::int64_t num_fim_ = 0;
  IndexPermutation order_;
  IndexPermutation fim_order_;  // the documents that it sends below num_fim_ are rearranged
  RandomSource fim_cuts_;
  // Where document 0, kStride, 2 kStride ... begin in the stream; last: the end.
  std::vector<std::int64_t> starts_;
};

}  // namespace fathom::data
