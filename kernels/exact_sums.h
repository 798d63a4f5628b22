#pragma once

#include <cstdint>
#include <vector>

#include "core/exact_sum.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Exact sums (core/exact_sum.h) that stay on the device: one is kExactSumIntegers numbers of int64,
// those of ExactSum::to_integers(). Sums of ranks are added number by number, by any all_reduce.
inline constexpr std::int64_t kExactSumIntegers = ExactSum::kNumLimbs + 1;

// sum += x[first] + x[first + stride] + ..., each as it is. Asynchronous on `stream`. Throws
// InternalError on a mismatch.
//   x    [n] float32, or int64: the bits of doubles
//   sum  [kExactSumIntegers] int64, in-out
void add_exactly(const Tensor& x, std::int64_t first, std::int64_t stride, Tensor& sum,
                 Stream& stream);

// The sums as doubles, each rounded once; NaN where a term was not finite. On the host. Throws
// InternalError unless there are kExactSumIntegers integers for each.
//   sums  [n, kExactSumIntegers]
std::vector<double> exact_sum_values(const std::vector<std::int64_t>& sums);

extern constinit KernelSlot<void(const Tensor&, std::int64_t, std::int64_t, Tensor&, Stream&)>
    add_exactly_slot;

}  // namespace fathom::kernels
