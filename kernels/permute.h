#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Moving token rows to their experts and back (dropless, as in DeepSeek-V3, arXiv:2412.19437,
// section 2.1.2). A slot is (token, choice), numbered token * top_k + choice; a row is a slot's
// place in the order of experts.
//   slot_of_row, row_of_slot  [num_tokens * top_k] int32, inverse permutations of one another
//   rows, d_rows              [num_tokens * top_k, hidden_size]
//   x, dx, y, dy              [num_tokens, hidden_size]
//   gates, d_gates            [num_tokens, top_k], top_k at most 64
// gates and d_gates float32; rows, x and y and their gradients float32, on other devices than the
// CPU also bfloat16, all of one call alike. Sums in float32, in slot order (docs/numerics.md, rule
// 5). Outputs must not alias inputs. Asynchronous on `stream`. All throw InternalError on a
// mismatch of shapes or dtypes.

// Stable sort of the slots by expert.
//   expert_ids  [num_tokens, top_k] int32 in [0, num_experts); InternalError otherwise. On CUDA,
//               which takes up to 1024 experts, an id outside counts as the last expert.
//   counts      [num_experts] int64, out: slots of each expert
//   slot_of_row, row_of_slot  out
void sort_slots(const Tensor& expert_ids, Tensor& counts, Tensor& slot_of_row, Tensor& row_of_slot,
                Stream& stream);

// How the rows of several ranks, which arrive rank by rank and of each rank expert by expert, lie
// expert by expert: an expert's rows in the order of ranks, those of a rank as they came.
//   counts          [num_ranks, num_experts, num_units] int64: rows by where they come from
//   offsets         [num_experts + 1] int64, out: where each expert's rows begin, and their number
//   part_offsets    [num_experts * num_ranks * num_units + 1] int64, out: the same of each (expert,
//                   rank, unit), if defined
//   arrival_of_row, row_of_arrival  [num_rows] int32, out: inverse permutations; with one rank not
//                   looked at, since nothing moves. num_rows is the sum of the counts.
void arrange_rows(const Tensor& counts, Tensor& offsets, Tensor& part_offsets,
                  Tensor& arrival_of_row, Tensor& row_of_arrival, Stream& stream);

// rows[r] = x[slot_of_row[r] / top_k]; InternalError for a slot outside, on CUDA a row of NaN.
void permute_forward(const Tensor& x, const Tensor& slot_of_row, int top_k, Tensor& rows,
                     Stream& stream);
// dx[t] = sum over the choices of t, in slot order, of d_rows[row_of_slot[slot]]; added to dx[t] as
// one term with `accumulate`.
void permute_backward(const Tensor& d_rows, const Tensor& row_of_slot, Tensor& dx, bool accumulate,
                      Stream& stream);

// y[t] += sum over choices j, in slot order, of gates[t, j] * rows[row_of_slot[t * top_k + j]]; the
// sum is added as one term.
void combine_forward(const Tensor& rows, const Tensor& row_of_slot, const Tensor& gates, Tensor& y,
                     Stream& stream);
// d_rows[r] = gate * dy[token];  d_gates[t, j] = dy[t] . rows[row], over 16 lanes and a halving
// tree. Both overwritten.
void combine_backward(const Tensor& dy, const Tensor& rows, const Tensor& row_of_slot,
                      const Tensor& gates, Tensor& d_rows, Tensor& d_gates, Stream& stream);

// destination[i] = source[index[i]] for whole rows; InternalError for an index outside, on CUDA a
// row of NaN.
//   index        [num_rows] int32
//   source       [*, hidden_size];  destination  [num_rows, hidden_size]
void gather_rows(const Tensor& source, const Tensor& index, Tensor& destination, Stream& stream);

extern constinit KernelSlot<void(const Tensor&, Tensor&, Tensor&, Tensor&, Stream&)>
    sort_slots_slot;
extern constinit KernelSlot<void(const Tensor&, Tensor&, Tensor&, Tensor&, Tensor&, Stream&)>
    arrange_rows_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, int, Tensor&, Stream&)>
    permute_forward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, bool, Stream&)>
    permute_backward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    combine_forward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                 Tensor&, Tensor&, Stream&)>
    combine_backward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)> gather_rows_slot;

}  // namespace fathom::kernels
