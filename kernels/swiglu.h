#pragma once

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::kernels {

// y = silu(gate) * up,  silu(g) = g * sigmoid(g)                      SwiGLU, arXiv:2002.05202, eq. 5
//   gate_up  [num_rows, 2 * size]  [gate | up]
//   y        [num_rows, size]
// float32. Throws InternalError on a mismatch.
void swiglu_forward(const Tensor& gate_up, Tensor& y, Stream& stream);
// d_gate_up is overwritten and may alias gate_up.
void swiglu_backward(const Tensor& dy, const Tensor& gate_up, Tensor& d_gate_up, Stream& stream);

}  // namespace fathom::kernels
