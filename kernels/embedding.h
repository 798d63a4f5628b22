#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"
#include "kernels/gradient_sum.h"

namespace fathom::kernels {

// Rows of a table whose first row is the vocabulary entry `first_row`: out[i] = table[tokens[i] -
// first_row], or zeros for a token outside the table (it is another tensor rank's). A -0 becomes
// +0, as it does when the parts of several ranks are added.
//   tokens  [num_tokens] int32
//   table   [num_rows, hidden_size] float32, on other devices than the CPU also bfloat16
//   out     [num_tokens, hidden_size] dtype of table
void embedding_forward(const Tensor& tokens, const Tensor& table, std::int64_t first_row,
                       Tensor& out, Stream& stream);
// table_grad[tokens[i] - first_row] += dout[i] in ascending order of i: each token is a
// contribution, whatever table_grad.unit_rows says.
//   dout        [num_tokens, hidden_size] float32 or bfloat16, as out
//   table_grad  [num_rows, hidden_size]
// Both are asynchronous on `stream` and throw InternalError on a shape or dtype mismatch.
void embedding_backward(const Tensor& tokens, const Tensor& dout, std::int64_t first_row,
                        GradientSum& table_grad, Stream& stream);

extern constinit KernelSlot<void(const Tensor&, const Tensor&, std::int64_t, Tensor&, Stream&)>
    embedding_forward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, std::int64_t, GradientSum&, Stream&)>
    embedding_backward_slot;

}  // namespace fathom::kernels
