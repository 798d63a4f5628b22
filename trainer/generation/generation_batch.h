#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/rng.h"
#include "core/stream.h"
#include "model/micro_batch.h"
#include "trainer/generation/scheduler.h"

namespace fathom::trainer {

// How much of what a GenerationBatch has.
struct BatchShape {
  std::int64_t num_rows = 0;
  std::int64_t num_sequences = 0;
  std::int64_t num_page_entries = 0;
  std::int64_t num_copies = 0;
  std::int64_t num_logit_rows = 0;
  auto operator<=>(const BatchShape&) const = default;
};

// A micro-batch of Pass::kGenerate, and what its tokens are drawn with. All of it lies in one
// tensor, so that one copy brings it to the device.
struct GenerationBatch {
  model::MicroBatch micro_batch;
  Tensor sample_keys;  // of each logit row, see kernels/sample.h
};

// The numbers of a GenerationBatch on the host: the tokens of some feeds, and as its logit_rows the
// last tokens of the feeds that are whole, in their order.
class GenerationInputs {
 public:
  // The scheduler knows the feeds; random: by sequence.
  GenerationInputs(std::span<const Feed> feeds, const Scheduler& scheduler,
                   std::span<const RandomSource> random);

  // Whether each feed is one token whose logits are wanted, at least one, with no page to copy.
  bool is_decode() const noexcept { return is_decode_; }
  BatchShape shape() const noexcept;

  // Rows of no sequence up to a multiple of `multiple`, at least that.
  void fill_rows(std::int64_t multiple);
  // Of a decode: sequences without tokens, whose rows' logits mean nothing, up to one of few
  // shapes: at most 7 more, beyond 128 an eighth more; and page entries up to a power of two a
  // sequence.
  void fill_decode();

  // int32 numbers of a batch of this shape.
  static std::int64_t num_numbers(const BatchShape& shape);
  // `numbers` of at least that size; returns when they are on their way.
  void copy_to(Tensor& numbers, Stream& stream) const;
  // The batch in there.
  static GenerationBatch batch_in(const Tensor& numbers, const BatchShape& shape);

 private:
  enum Part { kTokens, kPositions, kSpans, kPages, kCopies, kLogitRows, kSampleKeys, kNumParts };
  // Of each part: its first number, and at the end where they end.
  static std::array<std::int64_t, kNumParts + 1> places(const BatchShape& shape);
  void add(const Feed& feed, const Scheduler& scheduler, const RandomSource& random);
  std::int64_t size(Part part) const noexcept { return std::ssize(parts_[part]); }

  std::array<std::vector<std::int32_t>, kNumParts> parts_;
  bool is_decode_ = true;
};

}  // namespace fathom::trainer
