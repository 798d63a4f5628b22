#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Rows of a table whose first row is the vocabulary entry `first_row`: out[i] = table[tokens[i] -
// first_row], or zeros for a token outside the table (it is another tensor rank's).
//   tokens  [num_tokens] int32
//   table   [num_rows, hidden_size] float32
//   out     [num_tokens, hidden_size] float32
void embedding_forward(const Tensor& tokens, const Tensor& table, std::int64_t first_row,
                       Tensor& out, Stream& stream);
// table_grad[tokens[i] - first_row] += dout[i], one after another in ascending order of i, in
// float32.
//   dout        [num_tokens, hidden_size] float32
//   table_grad  [num_rows, hidden_size] float32, in-out
// Both are asynchronous on `stream` and throw InternalError on a shape or dtype mismatch.
void embedding_backward(const Tensor& tokens, const Tensor& dout, std::int64_t first_row,
                        Tensor& table_grad, Stream& stream);

extern constinit KernelSlot<void(const Tensor&, const Tensor&, std::int64_t, Tensor&, Stream&)>
    embedding_forward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, std::int64_t, Tensor&, Stream&)>
    embedding_backward_slot;

}  // namespace fathom::kernels
