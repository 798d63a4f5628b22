#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/batch_source.h"
#include "data/conversation_set.h"
#include "data/micro_batch.h"
#include "data/mixture.h"
#include "data/training_data.h"

namespace fathom::data {

struct ConversationDataOptions {
  ChatMarkers markers = {};
  TooLong too_long = TooLong::kTruncate;
  std::int64_t sequence_length = 0;
  std::int64_t mtp_depth = 0;
};

// The training stream of conversations. A source's sequences are packed once; every epoch takes all
// of them, in an order of its own. As with token shards, sources take turns by weight.
class ConversationData final : public BatchSource {
 public:
  // Reads all files (SourceOptions::paths). Throws ConfigError and IoError (conversation_set.h).
  ConversationData(const std::vector<SourceOptions>& sources, DocumentOrder order,
                   std::uint64_t seed, const Tokenizer& tokenizer,
                   const ConversationDataOptions& options);

  void read(std::int64_t first_sample, std::int64_t count, MicroBatch& batch) const override;

  // One of the sources, each with a name of its own.
  struct Source {
    std::string name;
    ConversationSet conversations;
  };
  const std::vector<Source>& sources() const noexcept { return sources_; }

 private:
  std::int64_t sequence_of(const Source& source, std::int64_t index) const;

  DocumentOrder order_;
  std::uint64_t seed_;
  std::vector<Source> sources_;
  Mixture mixture_;
  std::vector<std::int32_t> text_bytes_per_token_;
  MicroBatchBuilder builder_;
};

// Held-out conversations, each once, in the order of the files.
class HeldOutConversations final : public HeldOutSource {
 public:
  // Throws ConfigError and IoError (conversation_set.h).
  HeldOutConversations(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer,
                       const ConversationDataOptions& options);

  std::int64_t num_sequences() const noexcept override { return conversations_.num_sequences(); }
  void read(std::int64_t first, std::int64_t count, MicroBatch& batch) const override;
  const ConversationSet& conversations() const noexcept { return conversations_; }

 private:
  ConversationSet conversations_;
  std::vector<std::int32_t> text_bytes_per_token_;
  MicroBatchBuilder builder_;
};

}  // namespace fathom::data
