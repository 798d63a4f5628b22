#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

enum class ScoreFunction { kSoftmax, kSigmoid };  // DeepSeek-V2, DeepSeek-V3
enum class GroupScore { kMax, kSumOfTop2 };       // V2, V3
struct RouterOptions {
  ScoreFunction score = ScoreFunction::kSigmoid;
  GroupScore group_score = GroupScore::kSumOfTop2;
  int num_experts = 0;
  int top_k = 0;
  int num_groups = 1;  // 1: no group limit
  int num_kept_groups = 1;
  bool normalize_gates = true;
  float gate_scale = 1.0F;  // routed_scaling_factor
  // Benchmarks: token t takes experts (t * top_k + j) mod num_experts, scores untouched.
  bool forced_balance = false;
  std::int64_t first_token = 0;  // global index of row 0, for forced_balance
  // expert_ids are given, as router_forward has left them before: they are read, not chosen.
  bool keeps_choice = false;
};

// The router of DeepSeek-V3 (arXiv:2412.19437, eq. 12-16) and V2 (arXiv:2405.04434, eq. 20-22):
//   s = score(logits);  c = s + bias, -inf outside the groups that group_score(c) keeps
//   S = top_k of c
//   g_i = gate_scale * s_i / (sum_S s + 1e-20)   or   gate_scale * s_i without normalize_gates
//   logits      [num_tokens, num_experts]
//   bias        [num_experts]              selection bias; zeros for V2
//   scores      [num_tokens, num_experts]  out; may alias logits
//   expert_ids  [num_tokens, top_k] int32  out, ascending in each row: the order of slots
//                                          (docs/numerics.md, rule 5)
//   gates       [num_tokens, top_k]        out, in the order of expert_ids
// float32; the sum of gates in slot order, a softmax over 16 lanes and a halving tree. Ties, of
// experts and of groups, go to the lowest index. Throws InternalError on a mismatch. A
// row with a NaN score, or with fewer than top_k candidates above -inf, gets the first experts and
// NaN gates: the loss becomes NaN and the caller's step is skipped. CUDA routes to up to 512
// experts, with other sums in a softmax and exp of the CUDA library.
void router_forward(const RouterOptions& options, const Tensor& logits, const Tensor& bias,
                    Tensor& scores, Tensor& expert_ids, Tensor& gates, Stream& stream);

// d_logits (overwritten) from the gradients of the gates and of all scores. With Z = sum_S s +
// 1e-20, a = d_gates:
//   ds_i = d_scores_i + [i in S] (gate_scale / Z) (a_i - sum_S a_j s_j / Z)
//          or, without normalize_gates, d_scores_i + [i in S] gate_scale * a_i
//   d_logits_i = ds_i s_i (1 - s_i)             for kSigmoid
//                s_i (ds_i - sum_j ds_j s_j)    for kSoftmax
//   d_gates   [num_tokens, top_k]
//   d_scores  [num_tokens, num_experts]  from the balance losses; zeros where there are none;
//                                        d_logits may alias it
void router_backward(const RouterOptions& options, const Tensor& scores, const Tensor& expert_ids,
                     const Tensor& d_gates, const Tensor& d_scores, Tensor& d_logits,
                     Stream& stream);

// counts[e] += number of (token, slot) pairs with expert e, or counts[e, u] += those of the u-th of
// num_units equal runs of tokens. Here and below ids outside throw InternalError; on CUDA nothing
// is counted for them, and balance_backward makes the gradients of such a token NaN.
//   expert_ids [num_tokens, top_k] int32;  counts [num_experts] or [num_experts, num_units] int64
void count_experts(const Tensor& expert_ids, Tensor& counts, Stream& stream);

// What the sequence-wise balance losses (arXiv:2412.19437, eq. 17-20) need of a range of tokens, as
// integers per sequence, so that tokens may be summed in any order on any number of ranks:
//   sequence_ids     [num_tokens] int32 in [0, num_sequences)
//   selected_counts  [num_sequences, num_experts] int64  += 1 for each expert among the top_k of
//                    the unbiased, ungrouped scores
//   score_sums       [num_sequences, num_experts] int64  += s' of the token in multiples of
//                    2^-kScoreFractionBits; s'_i = s_i / sum_j s_j for kSigmoid, s_i for kSoftmax
// A NaN counts as 0: the gates of its token are NaN already.
inline constexpr int kScoreFractionBits = 40;  // up to 2^22 tokens a sequence
void balance_statistics(const RouterOptions& options, const Tensor& scores,
                        const Tensor& sequence_ids, Tensor& selected_counts, Tensor& score_sums,
                        Stream& stream);
// The same of the real choice, for DeepSeek-V2's losses; expert_ids [num_tokens, top_k] int32 as
// router_forward leaves them, ascending in each row:
//   selected_counts     [num_sequences, num_experts] int64  += 1 for each (token, slot)
//   group_token_counts  [num_sequences, num_groups] int64   += 1 for each token with a slot in the
//                       group; experts are spread evenly and in order over the groups
void selection_statistics(const Tensor& expert_ids, const Tensor& sequence_ids,
                          Tensor& selected_counts, Tensor& group_token_counts, Stream& stream);
// d_scores[t, i] += dL/ds_ti given coefficient[sequence, i] = dL/ds'_ti (the same for all tokens of
// a sequence):
//   kSigmoid     (coefficient_i - sum_j coefficient_j s'_j) / sum_j s_j
//   kSoftmax     coefficient_i
//   coefficient  [num_sequences, num_experts] float32
void balance_backward(const RouterOptions& options, const Tensor& scores,
                      const Tensor& sequence_ids, const Tensor& coefficient, Tensor& d_scores,
                      Stream& stream);

extern constinit KernelSlot<void(const RouterOptions&, const Tensor&, const Tensor&, Tensor&,
                                 Tensor&, Tensor&, Stream&)>
    router_forward_slot;
extern constinit KernelSlot<void(const RouterOptions&, const Tensor&, const Tensor&, const Tensor&,
                                 const Tensor&, Tensor&, Stream&)>
    router_backward_slot;
extern constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> count_experts_slot;
extern constinit KernelSlot<void(const RouterOptions&, const Tensor&, const Tensor&, Tensor&,
                                 Tensor&, Stream&)>
    balance_statistics_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Tensor&, Stream&)>
    selection_statistics_slot;
extern constinit KernelSlot<void(const RouterOptions&, const Tensor&, const Tensor&, const Tensor&,
                                 Tensor&, Stream&)>
    balance_backward_slot;

}  // namespace fathom::kernels
