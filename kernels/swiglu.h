#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// SwiGLU (arXiv:2002.05202, eq. 5):
//   y = silu(gate) * up,  silu(g) = g * sigmoid(g)
//   gate_up  [num_rows, 2 * size]  [gate | up]
//   y        [num_rows, size]
// All alike float32, on other devices than the CPU also bfloat16; sigmoid within 2 ulp of float32.
// Asynchronous on `stream`. Throws InternalError on a shape or dtype mismatch.
void swiglu_forward(const Tensor& gate_up, Tensor& y, Stream& stream);
//   d_gate = dy * up * sigmoid(gate) * (1 + gate * (1 - sigmoid(gate)))
//   d_up   = dy * silu(gate)
// d_gate_up is overwritten and may alias gate_up.
void swiglu_backward(const Tensor& dy, const Tensor& gate_up, Tensor& d_gate_up, Stream& stream);

extern constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> swiglu_forward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)>
    swiglu_backward_slot;

}  // namespace fathom::kernels
