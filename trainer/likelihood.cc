#include "trainer/likelihood.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/host_copy.h"
#include "data/best_fit.h"
#include "data/micro_batch.h"
#include "model/token_loss.h"
#include "trainer/device_batch.h"
#include "trainer/evaluate_step.h"

namespace fathom::trainer {
namespace {

// Texts in rows of equal length, each a segment of its own.
class ScoredRows {
 public:
  struct Place {
    std::int64_t text = 0;
    std::int64_t begin = 0;  // of its first token in the row
  };
  using Row = std::vector<Place>;

  // Rows are of a multiple of `multiple` tokens.
  ScoredRows(std::span<const ScoredText> texts, std::int64_t sequence_length,
             std::int64_t multiple);

  std::int64_t num_rows() const noexcept { return std::ssize(rows_); }
  std::int64_t sequence_length() const noexcept { return sequence_length_; }
  // Empty from num_rows() on.
  const Row& row(std::int64_t index) const { return index < num_rows() ? row_of(index) : empty_; }
  data::MicroBatch read(std::int64_t first, std::int64_t count) const;

 private:
  const Row& row_of(std::int64_t index) const { return rows_[static_cast<std::size_t>(index)]; }
  data::Window window_of(const Row& row) const;

  std::span<const ScoredText> texts_;
  std::int64_t longest_input_ = 0;
  std::int64_t sequence_length_;
  std::vector<Row> rows_;
  Row empty_;
  std::vector<std::int32_t> bytes_per_token_;  // which nobody asks for
};

ScoredRows::ScoredRows(std::span<const ScoredText> texts, std::int64_t sequence_length,
                       std::int64_t multiple)
    : texts_(texts) {
  std::vector<std::int64_t> sizes;
  std::int64_t total = 0;
  std::int32_t last_token = 0;
  for (const ScoredText& text : texts) {
    FATHOM_CHECK(text.first_scored >= 1 && text.first_scored < text.tokens.size(),
                 text.first_scored, " of ", text.tokens.size(), " tokens");
    sizes.push_back(std::ssize(text.tokens));
    total += sizes.back();
    last_token = std::max(last_token, std::ranges::max(text.tokens));
  }
  // The last token of a row is a target only.
  longest_input_ = std::ranges::max(sizes) - 1;
  sequence_length_ = std::max(longest_input_, std::min(sequence_length, total - 1));
  sequence_length_ = (sequence_length_ + multiple - 1) / multiple * multiple;
  bytes_per_token_.assign(static_cast<std::size_t>(last_token) + 1, 0);
  for (const std::vector<std::int64_t>& bin : data::pack_best_fit(sizes, sequence_length_ + 1)) {
    Row row;
    std::int64_t begin = 0;
    for (const std::int64_t text : bin) {
      row.push_back({text, begin});
      begin += sizes[static_cast<std::size_t>(text)];
    }
    rows_.push_back(std::move(row));
  }
}

data::Window ScoredRows::window_of(const Row& row) const {
  data::Window window;
  for (const Place& place : row) {
    const ScoredText& text = texts_[static_cast<std::size_t>(place.text)];
    if (place.begin > 0) {
      window.document_starts.push_back(place.begin);
    }
    window.tokens.insert(window.tokens.end(), text.tokens.begin(), text.tokens.end());
    window.is_target.resize(window.tokens.size(), true);
    std::fill_n(window.is_target.begin() + place.begin, text.first_scored, false);
  }
  window.size = std::ssize(window.tokens);
  window.tokens.resize(static_cast<std::size_t>(sequence_length_) + 1, 0);
  window.is_target.resize(window.tokens.size(), false);
  return window;
}

data::MicroBatch ScoredRows::read(std::int64_t first, std::int64_t count) const {
  const data::MicroBatchBuilder builder(sequence_length_, 0, data::Segments::kDocuments,
                                        bytes_per_token_);
  data::MicroBatch batch;
  builder.begin(count, batch);
  for (std::int64_t i = 0; i < count; ++i) {
    builder.fill(i, first + i, window_of(row(first + i)), batch);
  }
  // Last tokens of texts and what fills rows up are read too; the model may have no position for
  // them, and nobody asks what follows.
  for (std::int32_t& position : batch.positions) {
    position = std::min(position, static_cast<std::int32_t>(longest_input_ - 1));
  }
  return batch;
}

// Keeps the losses of all tokens of a batch: [micro-batch][token], on the last stage.
class KeepLosses final : public model::TokenLoss {
 public:
  explicit KeepLosses(std::size_t num_micro_batches) : losses_(num_micro_batches) {}
  void weigh(int micro_batch, const Tensor& losses, Tensor& /*weights*/, Stream& stream) override {
    losses_[static_cast<std::size_t>(micro_batch)] = to_host<float>(losses, stream);
  }
  const std::vector<float>& losses(std::size_t micro_batch) const { return losses_[micro_batch]; }

 private:
  std::vector<std::vector<float>> losses_;
};

// `num_rows` rows from `first` on, as a data rank takes them.
struct Part {
  std::int64_t first = 0;
  std::int64_t num_rows = 0;
};

std::int64_t num_texts(const ScoredRows& rows, const Part& part) {
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < part.num_rows; ++i) {
    count += std::ssize(rows.row(part.first + i));
  }
  return count;
}

// -> the bits of the log-likelihoods of a part's texts, row by row; zeros where this rank has no
// losses.
std::vector<std::int64_t> sum_losses(std::span<const ScoredText> texts, const ScoredRows& rows,
                                     const Part& part, const KeepLosses& kept,
                                     std::int64_t micro_batch_size) {
  std::vector<std::int64_t> bits;
  for (std::int64_t i = 0; i < part.num_rows; ++i) {
    const std::vector<float>& losses = kept.losses(static_cast<std::size_t>(i / micro_batch_size));
    const std::int64_t row_begin = i % micro_batch_size * rows.sequence_length();
    for (const ScoredRows::Place& place : rows.row(part.first + i)) {
      const ScoredText& text = texts[static_cast<std::size_t>(place.text)];
      double sum = 0.0;
      // The loss of a token lies where the token before it is read.
      for (std::size_t t = text.first_scored; !losses.empty() && t < text.tokens.size(); ++t) {
        sum -= losses[static_cast<std::size_t>(row_begin + place.begin) + t - 1];
      }
      bits.push_back(std::bit_cast<std::int64_t>(sum));
    }
  }
  return bits;
}

// Brings what the last stage knows of a batch to all ranks: parts of all data ranks, in order.
std::vector<std::int64_t> exchange(std::vector<std::int64_t> mine,
                                   std::span<const std::int64_t> counts,
                                   const parallel::Mesh& mesh) {
  const auto width = static_cast<std::size_t>(std::ranges::max(counts));
  mine.resize(width, 0);
  const std::vector<std::int64_t> padded = parallel::gather_from_last_stages(mine, mesh);
  std::vector<std::int64_t> all;
  for (std::size_t rank = 0; rank < counts.size(); ++rank) {
    const auto begin = padded.begin() + static_cast<std::ptrdiff_t>(rank * width);
    all.insert(all.end(), begin, begin + counts[rank]);
  }
  return all;
}

}  // namespace

std::vector<double> log_likelihoods(std::span<const ScoredText> texts, model::PipelinedModel& model,
                                    const parallel::Mesh& mesh, Stream& stream,
                                    const LikelihoodOptions& options) {
  if (texts.empty()) {
    return {};
  }
  EvaluateStep step(model, mesh, stream);
  const std::int64_t tensor = mesh.shape().tensor;
  const ScoredRows rows(texts, options.sequence_length,
                        tensor / std::gcd(tensor, options.micro_batch_size));
  // Batches of a few micro-batches a rank keep the pipeline busy and memory small.
  const std::int64_t num_micro_batches = std::int64_t{2} * mesh.shape().pipeline;
  const std::int64_t part_rows = num_micro_batches * options.micro_batch_size;
  const std::int64_t batch_rows = part_rows * mesh.shape().data;
  std::vector<double> result(texts.size());
  for (std::int64_t first = 0; first < rows.num_rows(); first += batch_rows) {
    std::vector<Part> parts;
    std::vector<std::int64_t> counts;
    for (int rank = 0; rank < mesh.shape().data; ++rank) {
      parts.push_back({first + rank * part_rows, part_rows});
      counts.push_back(num_texts(rows, parts.back()));
    }
    const Part& mine = parts[static_cast<std::size_t>(mesh.coordinates().data)];
    std::vector<data::MicroBatch> host;
    for (std::int64_t i = 0; i < num_micro_batches; ++i) {
      host.push_back(
          rows.read(mine.first + i * options.micro_batch_size, options.micro_batch_size));
    }
    KeepLosses kept(host.size());
    step.run(make_device_batch(host, {first, batch_rows, 0.0}, mesh, stream).micro_batches,
             {.token_loss = &kept});
    const std::vector<std::int64_t> bits =
        exchange(sum_losses(texts, rows, mine, kept, options.micro_batch_size), counts, mesh);
    auto next = bits.begin();
    for (std::int64_t row = first; row < first + batch_rows; ++row) {
      for (const ScoredRows::Place& place : rows.row(row)) {
        result[static_cast<std::size_t>(place.text)] = std::bit_cast<double>(*next++);
      }
    }
    options.progress();
  }
  const bool is_finite =
      std::ranges::all_of(result, [](double value) { return std::isfinite(value); });
  if (!is_finite) {
    throw ConfigError("the weights give losses that are not finite");
  }
  return result;
}

}  // namespace fathom::trainer
