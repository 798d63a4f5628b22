#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "data/batch_source.h"
#include "data/micro_batch.h"
#include "data/mixture.h"
#include "data/packing.h"

namespace fathom::data {

struct SourceOptions {
  // Keys its random numbers, so that other sources may come and go. Empty: the last part of the
  // first path, so that the data may move.
  std::string name = {};
  std::vector<std::filesystem::path> paths = {};  // as open_token_shards() takes them
  double weight = 1.0;
};

// `source.name`; where it is empty, the last part of the first path, and "part #2" for the second
// of that name. Throws ConfigError when there is neither, and when one of `earlier` has the name.
std::string name_of(const SourceOptions& source, std::span<const std::string> earlier);
// SourceOptions::weight of each.
std::vector<double> weights_of(std::span<const SourceOptions> sources);

struct TrainingDataOptions {
  std::vector<SourceOptions> sources = {};
  std::uint64_t seed = 0;
  std::int64_t sequence_length = 0;
  std::int64_t mtp_depth = 0;
  // Of documents, and of the sequences cut from them.
  DocumentOrder order = DocumentOrder::kShuffled;
  DocumentStart document_start = DocumentStart::kPlain;
  double fim_rate = 0.0;
  Segments segments = Segments::kSequences;
};

// The samples of a source: its packed epochs one after another, each cut into windows that overlap
// by 1 + mtp_depth tokens, so that every token is a target once (what is left at the end of an
// epoch is not used), taken in the order of a permutation.
class SourceStream {
 public:
  // `like`: a shard to share with, or null (open_token_shards()).
  SourceStream(const SourceOptions& source, const TrainingDataOptions& options,
               const TokenShard* like);

  const std::string& name() const noexcept { return name_; }
  const DocumentSet& documents() const noexcept { return documents_; }
  std::int64_t samples_per_epoch() const noexcept { return samples_per_epoch_; }

  struct Place {
    std::int64_t epoch = 0;
    std::int64_t window = 0;  // place in the epoch's stream, in windows
  };
  Place place_of(std::int64_t index) const;
  // Sample `index` of the source, and the documents that it is made of.
  void read(std::int64_t index, Window& window, std::vector<PackedEpoch::Part>& parts) const;

 private:
  // An epoch made ready, when it is first read. Two are kept: a batch may hold samples of two.
  struct Epoch {
    Epoch(const DocumentSet& documents, const PackingOptions& packing, const PackingKey& key,
          std::int64_t num_samples);
    std::int64_t epoch;
    PackedEpoch stream;
    IndexPermutation sample_order;
  };
  std::shared_ptr<const Epoch> epoch(std::int64_t number) const;

  std::string name_;
  DocumentSet documents_;
  PackingOptions packing_;
  std::uint64_t seed_;
  std::int64_t sequence_length_;
  std::int64_t window_tokens_;
  std::int64_t samples_per_epoch_ = 0;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const Epoch>> epochs_;
};

// What a sample is made of, for people.
struct SampleDescription {
  struct Document {
    std::filesystem::path shard;
    std::int64_t document = 0;  // of the shard
    std::int64_t begin = 0;     // first token, counted with those that packing adds
    std::int64_t size = 0;
    bool is_fim = false;
  };
  std::int64_t sample = 0;  // of the run
  std::string source;
  std::int64_t epoch = 0;  // of the source
  std::int64_t window = 0;
  std::vector<Document> documents;
};

// The training stream of token shards.
class TrainingData final : public BatchSource {
 public:
  // Opens all shards. Throws IoError and ConfigError, among others when two sources were made with
  // different tokenizers.
  explicit TrainingData(const TrainingDataOptions& options);

  void read(std::int64_t first_sample, std::int64_t count, MicroBatch& batch) const override;
  MicroBatch read(std::int64_t first_sample, std::int64_t count) const;
  SampleDescription describe(std::int64_t sample) const;

  const Vocabulary& vocabulary() const noexcept {
    return sources_.front()->documents().vocabulary();
  }
  const std::vector<std::unique_ptr<SourceStream>>& sources() const noexcept { return sources_; }
  // Throws ConfigError unless a model with that many rows can read the data.
  void check_model_vocabulary(std::int64_t model_vocab_size) const;
  void check_tokenizer(const Tokenizer& tokenizer) const;

 private:
  std::vector<std::unique_ptr<SourceStream>> sources_;
  Mixture mixture_;
  MicroBatchBuilder builder_;
};

}  // namespace fathom::data
