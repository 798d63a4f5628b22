#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"
#include "kernels/exact_sums.h"

namespace fathom::kernels {

// sum += sum of x^2; num_non_finite += how many elements are NaN or Inf (they are not added). An
// element of 2^64 or more makes the sum NaN (core/exact_sum.h). Exactly: no rounding, no order, so
// that `sum` does not show how elements were cut into calls. Asynchronous on `stream`. Throws
// InternalError on a mismatch.
//   x               [n] float32 or bfloat16
//   sum             [kExactSumIntegers] int64, in-out; see kernels/exact_sums.h
//   num_non_finite  [1] int64, in-out
void sum_of_squares(const Tensor& x, Tensor& sum, Tensor& num_non_finite, Stream& stream);

// Whether a step may update, and by what its gradients are scaled, decided on the device
// (clipping by the norm, arXiv:1211.5063):
//   scale = min(1, max_norm / sqrt(sums[0])), 1 where max_norm is 0
//   scale = NaN where a sum is not finite or a counter is not 0
// Asynchronous on `stream`. Throws InternalError on a mismatch.
//   sums      [n, kExactSumIntegers] int64; the first is that of the gradients' squares
//   counters  [m] int64
//   scale     [1] float32, out
void update_scale(const Tensor& sums, const Tensor& counters, double max_norm, Tensor& scale,
                  Stream& stream);

extern constinit KernelSlot<void(const Tensor&, Tensor&, Tensor&, Stream&)> sum_of_squares_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, double, Tensor&, Stream&)>
    update_scale_slot;

}  // namespace fathom::kernels
