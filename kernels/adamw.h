#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// AdamW (arXiv:1711.05101, alg. 2) on a range of elements:
//   g = grad * grad_scale;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   master -= lr * ( m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * master )
//   value = master, rounded
// Constants of a step (1 - b1, 1 - b2^t, lr / (1 - b1^t), ...) are computed in double and rounded
// once to float32; the rest is float32, each operation rounded.
struct AdamWOptions {
  double learning_rate = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  std::int64_t step = 1;  // t, from 1
  // [1] float32, of the device: NaN leaves everything as it is (kernels/gradient_norm.h decides). 1
  // where undefined.
  Tensor grad_scale;
};
//   value        [n] float32 or bfloat16, out
//   master       [n] float32, in-out; may be the same tensor as value when value is float32
//   grad         [n] float32 or bfloat16
//   exp_avg, exp_avg_sq  [n] float32 or bfloat16, in-out; m and v
// Asynchronous on `stream`. Throws InternalError on a mismatch.
void adamw_step(const AdamWOptions& options, const Tensor& grad, Tensor& master, Tensor& value,
                Tensor& exp_avg, Tensor& exp_avg_sq, Stream& stream);

// For backends: the constants of a step, rounded once.
struct AdamWConstants {
  explicit AdamWConstants(const AdamWOptions& options);

  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float step_size;          // lr / (1 - b1^t)
  float exp_avg_sq_factor;  // 1 / (1 - b2^t)
  float epsilon;
  float decay;  // lr * weight_decay
};

extern constinit KernelSlot<void(const AdamWOptions&, const Tensor&, Tensor&, Tensor&, Tensor&,
                                 Tensor&, Stream&)>
    adamw_step_slot;

}  // namespace fathom::kernels
