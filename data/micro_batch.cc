#include "data/micro_batch.h"

#include "core/error.h"

namespace fathom::data {

std::span<const std::int32_t> MicroBatch::targets_at(std::int64_t depth) const {
  FATHOM_CHECK(depth >= 0 && depth <= mtp_depth, depth, " of ", mtp_depth);
  return std::span(targets).subspan(static_cast<std::size_t>(depth * num_tokens()),
                                    static_cast<std::size_t>(num_tokens()));
}

std::span<const float> MicroBatch::weights_at(std::int64_t depth) const {
  FATHOM_CHECK(depth >= 0 && depth <= mtp_depth, depth, " of ", mtp_depth);
  return std::span(loss_weights)
      .subspan(static_cast<std::size_t>(depth * num_tokens()),
               static_cast<std::size_t>(num_tokens()));
}

void MicroBatchBuilder::begin(std::int64_t num_sequences, MicroBatch& batch) const {
  batch.num_sequences = num_sequences;
  batch.sequence_length = sequence_length_;
  batch.mtp_depth = mtp_depth_;
  const auto size = static_cast<std::size_t>(batch.num_tokens());
  const std::size_t num_depths = static_cast<std::size_t>(mtp_depth_) + 1;
  batch.tokens.resize(size);
  batch.targets.resize(size * num_depths);
  batch.loss_weights.resize(size * num_depths);
  batch.positions.resize(size);
  batch.target_bytes.resize(size);
  batch.segments.assign(1, 0);
  batch.samples.assign(static_cast<std::size_t>(num_sequences), -1);
}

void MicroBatchBuilder::fill(std::int64_t index, std::int64_t sample, const Window& window,
                             MicroBatch& batch) const {
  FATHOM_CHECK(static_cast<std::int64_t>(window.tokens.size()) == window_tokens(),
               window.tokens.size(), " tokens, want ", window_tokens());
  batch.samples[static_cast<std::size_t>(index)] = sample;
  const std::int64_t first = index * sequence_length_;
  const bool is_isolated = segments_ == Segments::kDocuments;
  auto next_start = window.document_starts.begin();
  std::int64_t segment_begin = 0;
  const auto counts = [&](std::int64_t target) {
    return window.is_target.empty() || window.is_target[static_cast<std::size_t>(target)];
  };
  // The end of the document that token i is of; targets from there on belong to another one.
  const auto document_end = [&] {
    return next_start == window.document_starts.end() ? window.size : *next_start;
  };
  for (std::int64_t i = 0; i < sequence_length_; ++i) {
    if (is_isolated && next_start != window.document_starts.end() && *next_start == i) {
      ++next_start;
      segment_begin = i;
      batch.segments.push_back(static_cast<std::int32_t>(first + i));
    }
    const auto place = static_cast<std::size_t>(first + i);
    batch.tokens[place] = window.tokens[static_cast<std::size_t>(i)];
    batch.positions[place] = static_cast<std::int32_t>(i - segment_begin);
    const std::int64_t end = is_isolated ? document_end() : window.size;
    for (std::int64_t depth = 0; depth <= mtp_depth_; ++depth) {
      const std::int64_t target = i + 1 + depth;
      const auto slot = static_cast<std::size_t>(depth * batch.num_tokens()) + place;
      batch.targets[slot] = window.tokens[static_cast<std::size_t>(target)];
      batch.loss_weights[slot] =
          target < end && i >= window.first_target && counts(target) ? 1.0F : 0.0F;
    }
    const auto target = static_cast<std::size_t>(batch.targets[place]);
    batch.target_bytes[place] =
        batch.loss_weights[place] != 0.0F ? text_bytes_per_token_[target] : 0;
  }
  batch.segments.push_back(static_cast<std::int32_t>(first + sequence_length_));
}

}  // namespace fathom::data
