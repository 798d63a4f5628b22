#include "rl/policy_batch.h"

#include <algorithm>

#include "core/error.h"
#include "data/best_fit.h"

namespace fathom::rl {
namespace {

// Tokens that the model reads of a sequence.
std::int64_t num_inputs(const PolicySequence& sequence) {
  return std::ssize(sequence.prompt) + std::ssize(sequence.completion) - 1;
}

std::vector<std::vector<std::int64_t>> pack_rows(std::span<const PolicySequence> sequences,
                                                 std::int64_t sequence_length) {
  std::vector<std::int64_t> sizes;
  for (const PolicySequence& sequence : sequences) {
    FATHOM_CHECK(!sequence.prompt.empty() && !sequence.completion.empty() &&
                     num_inputs(sequence) <= sequence_length,
                 sequence.prompt.size(), " tokens of a prompt and ", sequence.completion.size(),
                 " of a completion in sequences of ", sequence_length);
    sizes.push_back(num_inputs(sequence));
  }
  return data::pack_best_fit(sizes, sequence_length);
}

// Writes rows into a rank's micro-batches.
class BatchWriter {
 public:
  BatchWriter(std::span<const PolicySequence> sequences, const PolicyBatchOptions& options)
      : sequences_(sequences),
        options_(options),
        no_text_(static_cast<std::size_t>(options.vocab_size), 0),
        builder_(options.sequence_length, 0, data::Segments::kDocuments, no_text_) {}

  void begin(PolicyBatch& batch, std::int64_t num_micro_batches) const {
    batch.micro_batches.resize(static_cast<std::size_t>(num_micro_batches));
    batch.places.resize(batch.micro_batches.size());
    for (data::MicroBatch& micro_batch : batch.micro_batches) {
      builder_.begin(options_.micro_batch_size, micro_batch);
    }
  }

  // Row `number` of the mini-batch as row `index` of the micro-batch.
  void write(std::span<const std::int64_t> row, std::int64_t number, std::int64_t index,
             data::MicroBatch& micro_batch, std::vector<PolicyPlace>& places) const {
    data::Window window;
    window.is_target.assign(static_cast<std::size_t>(builder_.window_tokens()), false);
    for (const std::int64_t item : row) {
      const PolicySequence& sequence = sequences_[static_cast<std::size_t>(item)];
      if (!window.tokens.empty()) {
        window.document_starts.push_back(std::ssize(window.tokens));
      }
      window.tokens.insert(window.tokens.end(), sequence.prompt.begin(), sequence.prompt.end());
      window.tokens.insert(window.tokens.end(), sequence.completion.begin(),
                           sequence.completion.end() - 1);
    }
    window.size = std::ssize(window.tokens);
    if (window.size > 0 && window.size < options_.sequence_length) {
      window.document_starts.push_back(window.size);
    }
    window.tokens.resize(static_cast<std::size_t>(builder_.window_tokens()), 0);
    builder_.fill(index, number, window, micro_batch);
    aim(row, index * options_.sequence_length, micro_batch, places);
  }

 private:
  // The builder takes targets from the window, which lacks the last token of each sequence.
  void aim(std::span<const std::int64_t> row, std::int64_t first_token,
           data::MicroBatch& micro_batch, std::vector<PolicyPlace>& places) const {
    for (const std::int64_t item : row) {
      const PolicySequence& sequence = sequences_[static_cast<std::size_t>(item)];
      const std::int64_t place = first_token + std::ssize(sequence.prompt) - 1;
      std::copy(sequence.completion.begin(), sequence.completion.end(),
                micro_batch.targets.begin() + place);
      std::fill_n(micro_batch.loss_weights.begin() + place, sequence.completion.size(), 1.0F);
      places.push_back({static_cast<std::size_t>(item), place});
      first_token += num_inputs(sequence);
    }
  }

  std::span<const PolicySequence> sequences_;
  PolicyBatchOptions options_;
  std::vector<std::int32_t> no_text_;
  data::MicroBatchBuilder builder_;
};

}  // namespace

PolicyBatch pack_policy_batch(std::span<const PolicySequence> sequences,
                              const PolicyBatchOptions& options) {
  const auto rows = pack_rows(sequences, options.sequence_length);
  const std::int64_t size = options.micro_batch_size;
  const std::int64_t part = size * options.num_data_ranks * options.micro_batch_multiple;
  const std::int64_t num_micro_batches =
      std::max<std::int64_t>(1, (std::ssize(rows) + part - 1) / part) *
      options.micro_batch_multiple;
  PolicyBatch batch;
  batch.num_rows = std::ssize(rows);
  const BatchWriter writer(sequences, options);
  writer.begin(batch, num_micro_batches);
  for (std::size_t m = 0; m < batch.micro_batches.size(); ++m) {
    for (std::int64_t index = 0; index < size; ++index) {
      const std::int64_t number =
          (static_cast<std::int64_t>(m) * options.num_data_ranks + options.data_rank) * size +
          index;
      const std::span<const std::int64_t> row =
          number < std::ssize(rows)
              ? std::span<const std::int64_t>(rows[static_cast<std::size_t>(number)])
              : std::span<const std::int64_t>();
      writer.write(row, number, index, batch.micro_batches[m], batch.places[m]);
    }
  }
  return batch;
}

}  // namespace fathom::rl
