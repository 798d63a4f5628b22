#include "data/evaluation_data.h"

#include <algorithm>

#include "core/error.h"

namespace fathom::data {
namespace {

std::int64_t checked_stride(const EvaluationDataOptions& options) {
  const std::int64_t stride = options.stride == 0 ? options.sequence_length : options.stride;
  if (options.sequence_length < 1 || options.mtp_depth < 0 || stride < 1 ||
      stride > options.sequence_length) {
    throw ConfigError(
        concat("evaluation data: sequence_length is ", options.sequence_length, ", stride ",
               options.stride, ", MTP modules ", options.mtp_depth,
               ": want a length of at least 1, a stride up to it, and 0 or more modules"));
  }
  return stride;
}

}  // namespace

EvaluationData::EvaluationData(const EvaluationDataOptions& options)
    : sequence_length_(options.sequence_length),
      stride_(checked_stride(options)),
      documents_(options.paths),
      stream_(documents_,
              {.order = DocumentOrder::kAsStored, .start = options.document_start, .fim_rate = 0.0},
              {.seed = 0, .source = "evaluation", .epoch = 0}),
      builder_(options.sequence_length, options.mtp_depth, options.segments,
               vocabulary().text_bytes_per_token) {
  const std::int64_t beyond_first =
      std::max<std::int64_t>(0, stream_.num_tokens() - sequence_length_);
  num_sequences_ = 1 + (beyond_first + stride_ - 1) / stride_;
}

void EvaluationData::read_window(std::int64_t sequence, Window& window) const {
  const std::int64_t window_tokens = builder_.window_tokens();
  window.tokens.assign(static_cast<std::size_t>(window_tokens), vocabulary().special_tokens.eos);
  window.document_starts.clear();
  window.size = 0;
  window.first_target = sequence == 0 ? 0 : sequence_length_ - stride_;
  if (sequence >= num_sequences_) {
    return;
  }
  // With the eos before it, token i of all is token i - 1 of the stream; the window is filled with
  // eos already.
  const std::int64_t begin = sequence * stride_ - 1;
  const std::int64_t from = std::max<std::int64_t>(0, begin);
  const std::int64_t end = std::min(begin + window_tokens, stream_.num_tokens());
  window.size = end - begin;
  std::vector<PackedEpoch::Part> parts;
  stream_.read(
      from,
      std::span(window.tokens)
          .subspan(static_cast<std::size_t>(from - begin), static_cast<std::size_t>(end - from)),
      parts);
  std::int64_t start = from - begin;
  for (const PackedEpoch::Part& part : parts) {
    // The first document goes on with the token before it.
    if (start > 0 && part.begin == 0 && from - begin != start) {
      window.document_starts.push_back(start);
    }
    start += part.size;
  }
}

void EvaluationData::read(std::int64_t first, std::int64_t count, MicroBatch& batch) const {
  builder_.begin(count, batch);
  Window window;
  for (std::int64_t i = 0; i < count; ++i) {
    read_window(first + i, window);
    builder_.fill(i, first + i, window, batch);
  }
}

MicroBatch EvaluationData::read(std::int64_t first, std::int64_t count) const {
  MicroBatch batch;
  read(first, count, batch);
  return batch;
}

}  // namespace fathom::data
