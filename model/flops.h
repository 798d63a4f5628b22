#pragma once

#include <cstdint>

#include "model/options.h"

namespace fathom::model {

// Floating-point operations that forward and backward of one token take, in sequences of
// `sequence_length` tokens: 2 a multiply-add, so 6 for each weight that a token is multiplied with
// (its top_k experts of the routed ones, the head, MTP modules), and causal attention over half of
// the sequence on average, QK^T and PV, with a backward of twice the forward. So published shares
// of a device's peak are counted: 6 N + 3 L s n_h (d_qk + d_v). What is computed again is not
// counted, neither by recomputation options nor by an attention kernel, nor is the rest: norms,
// softmax, optimizer.
double flops_per_token(const ModelOptions& options, std::int64_t sequence_length);

// Its parts: of decoder layer `layer`, and of what follows the last layer, head and MTP modules.
double layer_flops_per_token(const ModelOptions& options, int layer, std::int64_t sequence_length);
double end_flops_per_token(const ModelOptions& options, std::int64_t sequence_length);

}  // namespace fathom::model
