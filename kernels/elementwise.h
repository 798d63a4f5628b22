#pragma once

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::kernels {

// Element by element; all of one size. `out` may alias an input. float32 unless said otherwise.
void add(const Tensor& a, const Tensor& b, Tensor& out, Stream& stream);        // out = a + b
void add_in_place(Tensor& a, const Tensor& b, Stream& stream);                  // a += b; float32 or int64
void maximum_in_place(Tensor& a, const Tensor& b, Stream& stream);              // a = max(a, b); float32 or int64
void scale(Tensor& x, float factor, Stream& stream);                            // x *= factor
void fill(Tensor& x, float value, Stream& stream);                              // any dtype: rounded to it
void copy(const Tensor& from, Tensor& to, Stream& stream);                      // same dtype; also between devices
void convert(const Tensor& from, Tensor& to, Stream& stream);                   // float32 <-> bfloat16, nearest even
// Columns [first, first + n) of `from` into the same number of columns of `to` from `to_first` on; rows alike.
void copy_columns(const Tensor& from, int from_first, Tensor& to, int to_first, int num_columns,
                  Stream& stream);

}  // namespace fathom::kernels
