#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"
#include "kernels/gradient_sum.h"

namespace fathom::kernels {

// RMSNorm (arXiv:1910.07467, eq. 4):
//   y = x * inv_rms * gain,  inv_rms = 1 / sqrt(mean(x^2) + eps)
//   x, y     [num_tokens, >= hidden_size]  the leading hidden_size columns are used, the others
//            left alone; y may alias x
//   gain     [hidden_size]
//   inv_rms  [num_tokens] out; kept for the backward
// inv_rms float32; x, y, their gradients and gain float32, on other devices than the CPU also
// bfloat16, all of one call alike. Sums in float32, on the CPU over 16 lanes and a halving tree.
// Asynchronous on `stream`. Throws InternalError on a shape or dtype mismatch.
void rms_norm_forward(const Tensor& x, const Tensor& gain, float eps, Tensor& y, Tensor& inv_rms,
                      Stream& stream);

// A residual connection and the norm behind it in one pass: h += x, then y and inv_rms of h, which
// is rounded to its dtype before. h has the columns of x and does not alias it, nor y.
void add_rms_norm_forward(const Tensor& x, Tensor& h, const Tensor& gain, float eps, Tensor& y,
                          Tensor& inv_rms, Stream& stream);

// What the forward was given and left.
struct RmsNormInputs {
  const Tensor& x;  // what the norm was taken of: h, where there is one
  const Tensor& gain;
  const Tensor& inv_rms;
};

// Both gradients, in one pass over the rows where a device allows it:
//   dx = inv_rms * (dy * gain - x_hat * mean(dy * gain * x_hat)),  x_hat = x * inv_rms
//   gain_grad += sum over the tokens of each unit of dy * x_hat
//   dy, dx     [num_tokens, >= hidden_size]  as x and y; dx is overwritten and may alias dy, row by
//              row, but not x
//   gain_grad  [hidden_size]
// The CPU takes a unit's tokens in ascending order. On CUDA their order follows from the size of
// the unit for int64 sums; for float32 ones all tokens are one unit, and it follows from their
// number and the device.
void rms_norm_backward(const Tensor& dy, const RmsNormInputs& norm, Tensor& dx,
                       GradientSum& gain_grad, Stream& stream);
// The backward of add_rms_norm_forward: to this dx comes dh, the gradient of h but for what comes
// through the norm. dx may alias dy, not dh.
void add_rms_norm_backward(const Tensor& dy, const RmsNormInputs& norm, const Tensor& dh,
                           Tensor& dx, GradientSum& gain_grad, Stream& stream);

extern constinit KernelSlot<void(const Tensor&, const Tensor&, float, Tensor&, Tensor&, Stream&)>
    rms_norm_forward_slot;
extern constinit KernelSlot<void(const Tensor&, Tensor&, const Tensor&, float, Tensor&, Tensor&,
                                 Stream&)>
    add_rms_norm_forward_slot;
// Of both: without dh, null.
extern constinit KernelSlot<void(const Tensor&, const RmsNormInputs&, const Tensor* dh, Tensor&,
                                 GradientSum&, Stream&)>
    rms_norm_backward_slot;

}  // namespace fathom::kernels
