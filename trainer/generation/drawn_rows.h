#pragma once

#include <cstdint>
#include <vector>

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::trainer {

struct Drawn {
  static constexpr std::int32_t kNoToken = -1;  // the logits were not finite
  std::int32_t token = kNoToken;
  float logprob = 0.0F;
};

// Tokens drawn from rows of logits and their log-probabilities, in one tensor, so that one copy
// brings them to the host.
class DrawnRows {
 public:
  DrawnRows(std::int64_t num_rows, Stream& stream);

  std::int64_t num_rows() const noexcept { return num_rows_; }
  Tensor tokens() const;    // [num_rows] int32
  Tensor logprobs() const;  // [num_rows] float32
  // The first `count`.
  std::vector<Drawn> to_host(std::int64_t count, Stream& stream) const;

 private:
  std::int64_t num_rows_;
  std::int64_t first_logprob_;
  Tensor numbers_;
};

}  // namespace fathom::trainer
