#include "data/training_data.h"

#include <algorithm>

#include "core/error.h"

namespace fathom::data {
namespace {

std::vector<std::unique_ptr<SourceStream>> open_sources(const TrainingDataOptions& options) {
  if (options.sources.empty()) {
    throw ConfigError("data: no training sources");
  }
  if (options.sequence_length < 1 || options.mtp_depth < 0) {
    throw ConfigError(concat("data: sequence_length is ", options.sequence_length,
                             " and the number of MTP modules ", options.mtp_depth,
                             ", want at least 1 and 0"));
  }
  std::vector<std::unique_ptr<SourceStream>> sources;
  std::vector<std::string> names;
  for (SourceOptions source : options.sources) {
    source.name = name_of(source, names);
    names.push_back(source.name);
    const TokenShard* const like =
        sources.empty() ? nullptr : &sources.front()->documents().shards().front();
    sources.push_back(std::make_unique<SourceStream>(source, options, like));
    check_tokenizer_hash(sources.back()->documents().shards().front(),
                         sources.front()->documents().vocabulary().tokenizer_hash);
  }
  return sources;
}

}  // namespace

std::string name_of(const SourceOptions& source, std::span<const std::string> earlier) {
  const auto is_taken = [&](const std::string& name) {
    return std::find(earlier.begin(), earlier.end(), name) != earlier.end();
  };
  if (!source.name.empty()) {
    if (is_taken(source.name)) {
      throw ConfigError(concat("data: two sources are named \"", source.name, "\""));
    }
    return source.name;
  }
  if (source.paths.empty()) {
    throw ConfigError("data: a source without a path");
  }
  const std::filesystem::path path = source.paths.front().lexically_normal();
  const std::string plain = (path.has_filename() ? path : path.parent_path()).filename().string();
  std::string name = plain;
  for (int number = 2; is_taken(name); ++number) {
    name = concat(plain, " #", number);
  }
  return name;
}

std::vector<double> weights_of(std::span<const SourceOptions> sources) {
  std::vector<double> weights;
  weights.reserve(sources.size());
  for (const SourceOptions& source : sources) {
    weights.push_back(source.weight);
  }
  return weights;
}

SourceStream::Epoch::Epoch(const DocumentSet& documents, const PackingOptions& packing,
                           const PackingKey& key, std::int64_t num_samples)
    : epoch(key.epoch),
      stream(documents, packing, key),
      sample_order(num_samples, RandomSource(key.seed, concat("data/sample_order/", key.source,
                                                              "/epoch/", key.epoch))) {}

SourceStream::SourceStream(const SourceOptions& source, const TrainingDataOptions& options,
                           const TokenShard* like)
    : name_(source.name),
      documents_(source.paths, like),
      packing_{
          .order = options.order, .start = options.document_start, .fim_rate = options.fim_rate},
      seed_(options.seed),
      sequence_length_(options.sequence_length),
      window_tokens_(options.sequence_length + 1 + options.mtp_depth) {
  check_packing(documents_, packing_);
  const std::int64_t num_tokens = PackedEpoch::num_tokens(documents_, packing_);
  // A source shorter than one window is one padded sample.
  samples_per_epoch_ =
      std::max<std::int64_t>(1, (num_tokens - 1 - options.mtp_depth) / sequence_length_);
}

std::shared_ptr<const SourceStream::Epoch> SourceStream::epoch(std::int64_t number) const {
  constexpr std::size_t kMaxKept = 2;
  const std::lock_guard lock(mutex_);
  for (const auto& known : epochs_) {
    if (known->epoch == number) {
      return known;
    }
  }
  if (epochs_.size() == kMaxKept) {
    epochs_.erase(epochs_.begin());
  }
  epochs_.push_back(std::make_shared<const Epoch>(
      documents_, packing_, PackingKey{.seed = seed_, .source = name_, .epoch = number},
      samples_per_epoch_));
  return epochs_.back();
}

SourceStream::Place SourceStream::place_of(std::int64_t index) const {
  const std::int64_t number = index / samples_per_epoch_;
  const std::int64_t sample = index % samples_per_epoch_;
  const bool is_shuffled = packing_.order == DocumentOrder::kShuffled;
  return {number, is_shuffled ? epoch(number)->sample_order(sample) : sample};
}

void SourceStream::read(std::int64_t index, Window& window,
                        std::vector<PackedEpoch::Part>& parts) const {
  const Place place = place_of(index);
  const std::shared_ptr<const Epoch> current = epoch(place.epoch);
  const std::int64_t begin = place.window * sequence_length_;
  window.size = std::min(window_tokens_, current->stream.num_tokens() - begin);
  window.first_target = 0;
  window.tokens.assign(static_cast<std::size_t>(window_tokens_),
                       documents_.vocabulary().special_tokens.eos);
  current->stream.read(begin, std::span(window.tokens).first(static_cast<std::size_t>(window.size)),
                       parts);
  window.document_starts.clear();
  std::int64_t start = 0;
  for (const PackedEpoch::Part& part : parts) {
    if (start > 0) {
      window.document_starts.push_back(start);
    }
    start += part.size;
  }
}

TrainingData::TrainingData(const TrainingDataOptions& options)
    : sources_(open_sources(options)),
      mixture_(weights_of(options.sources)),
      builder_(options.sequence_length, options.mtp_depth, options.segments,
               vocabulary().text_bytes_per_token) {}

void TrainingData::read(std::int64_t first_sample, std::int64_t count, MicroBatch& batch) const {
  builder_.begin(count, batch);
  Window window;
  std::vector<PackedEpoch::Part> parts;
  for (std::int64_t i = 0; i < count; ++i) {
    const Mixture::Place place = mixture_.at(first_sample + i);
    sources_[static_cast<std::size_t>(place.source)]->read(place.index, window, parts);
    builder_.fill(i, first_sample + i, window, batch);
  }
}

MicroBatch TrainingData::read(std::int64_t first_sample, std::int64_t count) const {
  MicroBatch batch;
  read(first_sample, count, batch);
  return batch;
}

SampleDescription TrainingData::describe(std::int64_t sample) const {
  const Mixture::Place place = mixture_.at(sample);
  const SourceStream& source = *sources_[static_cast<std::size_t>(place.source)];
  const SourceStream::Place where = source.place_of(place.index);
  SampleDescription description{.sample = sample,
                                .source = source.name(),
                                .epoch = where.epoch,
                                .window = where.window,
                                .documents = {}};
  Window window;
  std::vector<PackedEpoch::Part> parts;
  source.read(place.index, window, parts);
  for (const PackedEpoch::Part& part : parts) {
    const DocumentSet::Place document = source.documents().place_of(part.document);
    description.documents.push_back(
        {document.shard->path(), document.document, part.begin, part.size, part.is_fim});
  }
  return description;
}

void TrainingData::check_model_vocabulary(std::int64_t model_vocab_size) const {
  data::check_model_vocabulary(sources_.front()->documents().shards().front(), model_vocab_size);
}

void TrainingData::check_tokenizer(const Tokenizer& tokenizer) const {
  check_tokenizer_hash(sources_.front()->documents().shards().front(), tokenizer.hash());
}

}  // namespace fathom::data
