#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// y = x W^T for few rows, where arranging W for the registers costs more than the product itself:
// W is packed once, after each update of the weights, and used many times. Decoding takes a row a
// sequence. Every element is that of kernels/matmul.h, with the same bits.

// The shape of a packed W [out_size, in_size]: [ceil(out_size / 16), in_size, 16].
Shape packed_shape(const Shape& weight);

// packed(p, k, c) = w(16 p + c, k), zero beyond the rows of w.
//   w       [out_size, in_size] float32
//   packed  packed_shape(w.shape()) float32
void pack_weight(const Tensor& w, Tensor& packed, Stream& stream);

// y = x W^T; the inner dimension in a tree over num_chunks, as matmul_forward.
//   x       [num_rows, >= in_size]  its leading columns are used
//   packed  [ceil(out_size / 16), in_size, 16]
//   y       [num_rows, out_size]    out
// float32. Asynchronous on `stream`. Throws InternalError on a mismatch of shapes or dtypes.
void packed_matmul_forward(const Tensor& x, const Tensor& packed, Tensor& y, int num_chunks,
                           Stream& stream);

extern constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> pack_weight_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, int, Stream&)>
    packed_matmul_forward_slot;

}  // namespace fathom::kernels
