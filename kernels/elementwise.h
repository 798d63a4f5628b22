#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Element by element over tensors with the same number of elements and, unless said otherwise, the
// same dtype: float32, on other devices than the CPU also bfloat16; every result is rounded once.
// Asynchronous on `stream`. All throw InternalError when sizes, dtypes or devices do not fit.

// out = a + b; out may alias an input.
void add(const Tensor& a, const Tensor& b, Tensor& out, Stream& stream);
// a += b; int64 too.
void add_in_place(Tensor& a, const Tensor& b, Stream& stream);
// x *= factor
void scale(Tensor& x, float factor, Stream& stream);
// x = value; any dtype, `value` rounded to it (integers: to nearest).
void fill(Tensor& x, float value, Stream& stream);
// to = from; same dtype, any. The two must not overlap.
void copy(const Tensor& from, Tensor& to, Stream& stream);
// to = from; float32 -> bfloat16 (to nearest, ties to even), bfloat16 -> float32, or same dtype.
void convert(const Tensor& from, Tensor& to, Stream& stream);
// to[i, to_first + c] = from[i, from_first + c] for c in [0, num_columns); other columns of `to`
// are left alone.
//   from, to  [num_rows, *]; may be one tensor when the two ranges of columns are disjoint
void copy_columns(const Tensor& from, int from_first, Tensor& to, int to_first, int num_columns,
                  Stream& stream);

extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)> add_slot;
extern constinit KernelSlot<void(Tensor&, const Tensor&, Stream&)> add_in_place_slot;
extern constinit KernelSlot<void(Tensor&, float, Stream&)> scale_slot;
extern constinit KernelSlot<void(Tensor&, float, Stream&)> fill_slot;
extern constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> copy_slot;
extern constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> convert_slot;
extern constinit KernelSlot<void(const Tensor&, int, Tensor&, int, int, Stream&)> copy_columns_slot;

}  // namespace fathom::kernels
