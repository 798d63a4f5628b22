#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/micro_batch.h"

namespace fathom::rl {

// A prompt and a completion of at least one token each, which is learnt.
struct PolicySequence {
  std::span<const std::int32_t> prompt;
  std::span<const std::int32_t> completion;
};

// Where the log-probabilities of a completion's tokens stand in a micro-batch: those of the targets
// of tokens [first_token, first_token + size of the completion).
struct PolicyPlace {
  std::size_t sequence = 0;
  std::int64_t first_token = 0;
};

struct PolicyBatchOptions {
  std::int64_t sequence_length = 0;
  std::int64_t micro_batch_size = 0;
  std::int64_t num_data_ranks = 1;
  std::int64_t data_rank = 0;
  // The micro-batches of a rank are filled up to a multiple: interleaved schedules ask for it.
  std::int64_t micro_batch_multiple = 1;
  std::int64_t vocab_size = 0;
};

// One data rank's part of a mini-batch.
struct PolicyBatch {
  std::vector<data::MicroBatch> micro_batches;   // without MTP targets
  std::vector<std::vector<PolicyPlace>> places;  // [micro-batch], in the order of their tokens
  std::int64_t num_rows = 0;  // that hold something, over all data ranks; the rest is filling
};

// Packs sequences whole and isolated from each other into rows of sequence_length tokens
// (data/best_fit.h), which are dealt micro-batch by micro-batch to the data ranks in turn. Rows and
// their order are a function of the sequences alone; rows that fill up the last micro-batches hold
// nothing that counts, so that gradients do not depend on the layout. A sequence takes a token less
// than it has: its last one is only a target. Throws InternalError for a sequence that is longer
// than sequence_length + 1.
PolicyBatch pack_policy_batch(std::span<const PolicySequence> sequences,
                              const PolicyBatchOptions& options);

}  // namespace fathom::rl
