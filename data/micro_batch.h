#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/packing.h"

namespace fathom::data {

// Sequences that are computed together, flattened: n = num_sequences * sequence_length tokens, one
// sequence after another.
//   tokens        [n]                    t_i, what the model reads
//   targets       [(mtp_depth + 1) * n]  depth k first to last; at depth k: t_{i+1+k}
//   loss_weights  [(mtp_depth + 1) * n]  1 where the target counts, else 0
//   positions     [n]                    from 0 in every segment
//   segments      [num_segments + 1]     where each span of attention begins, and n
//   target_bytes  [n]                    UTF-8 bytes of the depth-0 target; 0 for special tokens and
//                                        where its weight is 0
//   samples       [num_sequences]        which samples of the run these are
// A target of weight 0 is a valid id that means nothing: past the end of the data, across documents
// when they are isolated, counted before (overlapping evaluation) or not part of an answer
// (conversations). A span of attention is a sequence, or with isolated documents each part of a
// document in it; never across sequences.
struct MicroBatch {
  std::int64_t num_sequences = 0;
  std::int64_t sequence_length = 0;
  std::int64_t mtp_depth = 0;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> targets;
  std::vector<float> loss_weights;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> segments;
  std::vector<std::int32_t> target_bytes;
  std::vector<std::int64_t> samples;

  std::int64_t num_tokens() const noexcept { return num_sequences * sequence_length; }
  std::int64_t num_segments() const noexcept {
    return static_cast<std::int64_t>(segments.size()) - 1;
  }
  // [n]; depth from 0 to mtp_depth. Depth k - 1 is also what the MTP module of depth k embeds.
  std::span<const std::int32_t> targets_at(std::int64_t depth) const;
  std::span<const float> weights_at(std::int64_t depth) const;
};

enum class Segments {
  kSequences,  // documents packed in a sequence see each other, as in DeepSeek's pretraining
  kDocuments,  // each part of a document is a segment of its own
};

// A stretch of a stream, from which one sequence is made.
struct Window {
  std::vector<std::int32_t> tokens;  // [sequence_length + 1 + mtp_depth]; past `size`: any valid id
  std::int64_t size = 0;             // tokens that are data
  std::int64_t first_target = 0;     // targets of the tokens before have been counted already
  // Places > 0 in tokens where another document begins, ascending.
  std::vector<std::int64_t> document_starts;
  std::vector<bool> is_target;  // [as tokens] whether a token counts as a target; empty: all do
};

// Builds a micro-batch sequence by sequence; keeps the memory of the one it is given.
class MicroBatchBuilder {
 public:
  // text_bytes_per_token [vocab_size] must outlive the builder.
  MicroBatchBuilder(std::int64_t sequence_length, std::int64_t mtp_depth, Segments segments,
                    std::span<const std::int32_t> text_bytes_per_token)
      : sequence_length_(sequence_length),
        mtp_depth_(mtp_depth),
        segments_(segments),
        text_bytes_per_token_(text_bytes_per_token) {}

  std::int64_t window_tokens() const noexcept { return sequence_length_ + 1 + mtp_depth_; }
  // Makes room for num_sequences sequences.
  void begin(std::int64_t num_sequences, MicroBatch& batch) const;
  // Fills sequence `index`; in ascending order.
  void fill(std::int64_t index, std::int64_t sample, const Window& window, MicroBatch& batch) const;

 private:
  std::int64_t sequence_length_;
  std::int64_t mtp_depth_;
  Segments segments_;
  std::span<const std::int32_t> text_bytes_per_token_;
};

}  // namespace fathom::data
