#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace fathom::model {

// What one micro-batch asks of the loss at one prediction depth.
struct Targets {
  Tensor ids;      // [num_tokens] int32; any value where the weight is 0
  Tensor weights;  // [num_tokens] float32: dL/dloss of each token; its mask divided by the global
                   // number of valid tokens
  Tensor mask;     // [num_tokens] float32: 0 or 1, for the reported sums
};

// The sequences of one micro-batch on one data rank, flattened: num_tokens = num_sequences *
// sequence_length. One of Pass::kGenerate holds the new tokens of any number of sequences in a row,
// filled up to a length that the tensor axis divides with rows that belong to none.
struct MicroBatch {
  std::int64_t num_sequences = 0;
  std::int64_t sequence_length = 0;
  std::int64_t first_token = 0;  // its index in the global batch
  Tensor tokens;                 // [num_tokens] int32
  Tensor positions;              // [num_tokens] int32
  Tensor segments;  // [num_segments + 1] int32: isolated spans of attention; never across sequences
  std::int64_t max_segment_tokens = 0;  // of the longest; 0: not known
  Tensor sequence_ids;                  // [num_tokens] int32: 0 .. num_sequences - 1
  // Of Pass::kGenerate, which reads tokens and positions besides:
  Tensor spans, pages, page_copies;  // see kernels::PagedSequences
  Tensor logit_rows;                 // [rows] int32: the tokens whose logits are wanted
  std::vector<Targets> targets;      // [0]: the next token; [k]: the token k further on, for MTP
  double balance_scale = 0.0;        // 1 / sequences of the global batch
  std::int64_t num_tokens() const noexcept { return num_sequences * sequence_length; }
};

}  // namespace fathom::model
