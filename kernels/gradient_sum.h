#pragma once

#include <cstdint>
#include <string_view>

#include "core/shape.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/check_tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

enum class Accumulate { kOverwrite, kAdd };

// A weight's gradient while contributions are added to it. A contribution is what one range of
// tokens adds to one element, a float32 number. The sum is one of two kinds:
//   float32  contributions are added in the order in which they come: the sum depends on it.
//   int64    (docs/numerics.md, rule 2) the sum in multiples of 2^-fraction_bits: a contribution is
//            rounded once, to nearest, ties to even, and added as an integer, so that no order and
//            no grouping over ranks shows. One that is not below `limit` in absolute value, NaN
//            included, is left out and counted in num_refused: the sum cannot wrap, and whether a
//            step is refused does not depend on the layout either.
struct GradientSum {
  Tensor sum;                  // the weight's shape; float32 or int64
  Tensor num_refused;          // [1] int64, in-out; with int64 sums only
  int fraction_bits = 0;       // with int64 sums only, as the next one
  float limit = 0.0F;          // at most 2^(62 - fraction_bits)
  std::int64_t unit_rows = 0;  // token rows of one contribution; 0: all rows of a call
  // Nothing has been added: whatever `sum` holds is not read, and the next operation that adds to
  // it writes every element, zero where it has no contribution.
  bool is_empty = false;

  Accumulate accumulate() const { return is_empty ? Accumulate::kOverwrite : Accumulate::kAdd; }

  GradientSum reshape(const Shape& shape) const {
    GradientSum view = *this;
    view.sum = sum.reshape(shape);
    return view;
  }
};

// Throws InternalError unless `gradient` is a sum of either kind of that shape and, with unit_rows,
// num_rows is a multiple of it.
void check_gradient(const TensorCheck& check, std::string_view name, const GradientSum& gradient,
                    const Shape& shape, std::int64_t num_rows);

// Makes an empty sum one of zeros. Asynchronous on `stream`.
void fill_if_empty(GradientSum& gradient, Stream& stream);

// The largest limit such that num_contributions below it cannot wrap an int64 sum:
// 2^(63 - fraction_bits) / num_contributions, and never above 2^(62 - fraction_bits).
float contribution_limit(int fraction_bits, std::int64_t num_contributions);

// value[i] = sum[i] * 2^-fraction_bits, rounded once to float32. `value` may begin where `sum`
// does.
//   sum    [n] int64
//   value  [n] float32
// Asynchronous on `stream`. Throws InternalError on a mismatch.
void round_gradient(const Tensor& sum, int fraction_bits, Tensor& value, Stream& stream);

extern constinit KernelSlot<void(const Tensor&, int, Tensor&, Stream&)> round_gradient_slot;

}  // namespace fathom::kernels
