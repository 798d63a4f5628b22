#pragma once

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::kernels {

// Moving token rows to their experts and back. A slot is (token, choice), numbered token * top_k + choice.

// Stable sort of the slots by expert.
//   expert_ids  [num_tokens, top_k] int32
//   counts      [num_experts] int64         out: slots of each expert
//   slot_of_row [num_tokens * top_k] int32  out: the slot that sorted row r holds
//   row_of_slot [num_tokens * top_k] int32  out: its inverse
void sort_slots(const Tensor& expert_ids, Tensor& counts, Tensor& slot_of_row, Tensor& row_of_slot,
                Stream& stream);

// rows[r] = x[slot_of_row[r] / top_k]          x [num_tokens, hidden], rows [num_tokens * top_k, hidden] float32
void permute_forward(const Tensor& x, const Tensor& slot_of_row, int top_k, Tensor& rows,
                     Stream& stream);
// dx[t] (+)= sum over the choices of t, in slot order, of d_rows[row_of_slot[slot]]
void permute_backward(const Tensor& d_rows, const Tensor& row_of_slot, Tensor& dx, bool accumulate,
                      Stream& stream);

// y[t] += sum over choices j, in slot order, of gates[t, j] * rows[row_of_slot[t * top_k + j]]
//   gates [num_tokens, top_k]; y [num_tokens, hidden] float32, in-out
void combine_forward(const Tensor& rows, const Tensor& row_of_slot, const Tensor& gates, Tensor& y,
                     Stream& stream);
// d_rows[r] = gate * dy[token];  d_gates[t, j] = dy[t] . rows[row]    both overwritten
void combine_backward(const Tensor& dy, const Tensor& rows, const Tensor& row_of_slot,
                      const Tensor& gates, Tensor& d_rows, Tensor& d_gates, Stream& stream);

// destination[i] = source[index[i]] for whole rows.   index [num_rows] int32; source, destination [*, hidden] float32
void gather_rows(const Tensor& source, const Tensor& index, Tensor& destination, Stream& stream);

}  // namespace fathom::kernels
