#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/batch_source.h"
#include "data/micro_batch.h"
#include "data/packing.h"

namespace fathom::data {

struct EvaluationDataOptions {
  std::vector<std::filesystem::path> paths = {};  // as open_token_shards() takes them
  std::int64_t sequence_length = 0;
  std::int64_t mtp_depth = 0;
  // Tokens by which one sequence begins after the one before, 1 to sequence_length; 0:
  // sequence_length, no overlap. With less, every target but the first ones has at least
  // sequence_length - stride tokens of context; it still counts once.
  std::int64_t stride = 0;
  DocumentStart document_start = DocumentStart::kPlain;
  Segments segments = Segments::kSequences;
};

// Held-out text in the order it is stored, every token a target exactly once: first an eos, as if a
// document had ended before, then each document with its eos. So, unless documents are isolated,
//   bits per byte = (sum of the losses at depth 0, in nats) / ln 2 / num_bytes()
// where num_bytes() is the sum of all target_bytes.
// Const functions may be called by several threads.
class EvaluationData final : public HeldOutSource {
 public:
  // Throws IoError and ConfigError.
  explicit EvaluationData(const EvaluationDataOptions& options);

  std::int64_t num_sequences() const noexcept override { return num_sequences_; }
  // Targets of all sequences together, the eos of each document among them.
  std::int64_t num_targets() const noexcept { return stream_.num_tokens(); }
  // UTF-8 bytes of the text.
  std::int64_t num_bytes() const noexcept { return documents_.num_bytes(); }
  const Vocabulary& vocabulary() const noexcept { return documents_.vocabulary(); }
  const DocumentSet& documents() const noexcept { return documents_; }

  void read(std::int64_t first, std::int64_t count, MicroBatch& batch) const override;
  MicroBatch read(std::int64_t first, std::int64_t count) const;

 private:
  void read_window(std::int64_t sequence, Window& window) const;

  std::int64_t sequence_length_;
  std::int64_t stride_;
  DocumentSet documents_;
  PackedEpoch stream_;
  std::int64_t num_sequences_ = 0;
  MicroBatchBuilder builder_;
};

}  // namespace fathom::data
