#pragma once

#include <cstdint>

#include "core/exact_sum.h"
#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::kernels {

// AdamW (arXiv:1711.05101, alg. 2) on a range of elements:
//   g = grad * grad_scale;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   master -= lr * ( m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * master );  value = master, rounded
struct AdamWOptions {
  float learning_rate = 0.0F;
  float beta1 = 0.9F;
  float beta2 = 0.95F;
  float epsilon = 1e-8F;
  float weight_decay = 0.0F;
  float grad_scale = 1.0F;   // clip factor
  std::int64_t step = 1;     // t, from 1
};
//   value        [n] float32 or bfloat16, out
//   master       [n] float32, in-out; may be the same tensor as value when value is float32
//   grad         [n] float32 or bfloat16
//   exp_avg, exp_avg_sq  [n] float32 or bfloat16, in-out
void adamw_step(const AdamWOptions& options, const Tensor& grad, Tensor& master, Tensor& value,
                Tensor& exp_avg, Tensor& exp_avg_sq, Stream& stream);

// Adds sum x^2 exactly (no rounding, order-free) and returns through `num_non_finite` how many elements are NaN or Inf
// (they are not added). Synchronous.   x [n] float32 or bfloat16
void sum_of_squares(const Tensor& x, ExactSum& sum, std::int64_t& num_non_finite, Stream& stream);

}  // namespace fathom::kernels
