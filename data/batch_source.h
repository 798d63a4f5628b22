#pragma once

#include <cstdint>

#include "data/micro_batch.h"

namespace fathom::data {

// The sequences that a run trains on: sample i of the run is a pure function of i, whoever reads
// it, whenever, on whatever layout. So resuming needs one integer. Const functions may be called by
// several threads.
class BatchSource {
 public:
  BatchSource() = default;
  virtual ~BatchSource() = default;
  BatchSource(const BatchSource&) = delete;  // parts of a source point to others
  BatchSource& operator=(const BatchSource&) = delete;

  // Samples first_sample .. first_sample + count - 1, into a batch whose memory is used again.
  // Throws ConfigError and IoError for damaged data.
  virtual void read(std::int64_t first_sample, std::int64_t count, MicroBatch& batch) const = 0;
};

// Sequences to evaluate on. Those from num_sequences() on are padding whose weights are all 0, so
// that ranks can share the work in equal batches.
class HeldOutSource : public BatchSource {
 public:
  virtual std::int64_t num_sequences() const noexcept = 0;
};

}  // namespace fathom::data
