#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Sums over the T tokens of each sequence, int64; see balance_statistics and selection_statistics
// of kernels/router.h.
struct BalanceStatistics {
  Tensor unbiased_counts;     // [num_sequences, num_experts]
  Tensor score_sums;          // [num_sequences, num_experts], multiples of 2^-kScoreFractionBits
  Tensor selected_counts;     // [num_sequences, num_experts]
  Tensor group_token_counts;  // [num_sequences, num_groups]
};

struct BalanceOptions {
  std::int64_t sequence_length = 0;  // T
  int top_k = 0;                     // K
  int max_groups_per_token = 1;      // M
  float sequence_coefficient = 0.0F;
  float expert_coefficient = 0.0F;
  float device_coefficient = 0.0F;
  float communication_coefficient = 0.0F;
  double scale = 1.0;  // of all: 1 / sequences of the global batch
};

// The balance losses of each sequence (model/balance_loss.h has the equations) and their
// derivatives. With N experts in D groups of equal size and P_i = score_sums_i / T:
//   factor_i = N / (K T) (sequence unbiased_i + expert selected_i + device mean of selected over
//              the group of i) + D / (M T) communication group_tokens of the group of i
//   coefficient_i = scale factor_i / T,   loss = sum_i scale factor_i P_i, i ascending
//   coefficient  [num_sequences, num_experts] float32, out: dL/ds'_ti, the same for all tokens t
//   losses       [num_sequences] int64, out: the bits of doubles, for the host
// In double; on CUDA the sum takes another fixed order. Asynchronous on `stream`. Throws
// InternalError on a mismatch.
void balance_coefficients(const BalanceOptions& options, const BalanceStatistics& statistics,
                          Tensor& coefficient, Tensor& losses, Stream& stream);

extern constinit KernelSlot<void(const BalanceOptions&, const BalanceStatistics&, Tensor&, Tensor&,
                                 Stream&)>
    balance_coefficients_slot;

}  // namespace fathom::kernels
