#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// y = x W^T for few rows, where arranging W for the registers costs more than the product itself:
// W is packed once, after each update of the weights, and used many times. Decoding takes a row a
// sequence. Every element is that of kernels/matmul.h, on the CPU with the same bits.
//
// pack_weight and the two products of what it packs are functions of the CPU, and on the meta
// device do nothing: elsewhere kernels/matmul.h takes any number of rows from the weights as they
// are. Only packed_head_matmul_forward is an operation of every device, for what pack_absorbed
// (kernels/latent_attention.h) packs, with the order of the elements that the device wants; below
// is the CPU's.
//
// x, w, packed and y are float32; of packed_head_matmul_forward on other devices than the CPU also
// all of them bfloat16. All are asynchronous on `stream` and throw InternalError on a mismatch of
// shapes or dtypes, or a device that they do not have.

// Up to so many rows; kernels/matmul.h is faster for more.
inline constexpr std::int64_t kMaxPackedRows = 64;

// Registers take sixteen columns at a time.
constexpr std::int64_t padded_to_panels(std::int64_t columns) { return (columns + 15) / 16 * 16; }

// The shape of a packed W [out_size, in_size]: [ceil(out_size / 16), in_size, 16]; of several
// matrices [n, out_size, in_size], each of which is packed for itself: [n, ceil(out_size / 16),
// in_size, 16].
Shape packed_shape(const Shape& weight);

// packed(p, k, c) = w(16 p + c, k), zero beyond the rows of w; for each matrix.
//   w       [out_size, in_size] or [n, out_size, in_size]
//   packed  packed_shape(w.shape())  out
void pack_weight(const Tensor& w, Tensor& packed, Stream& stream);

// y = x W^T; the inner dimension in a tree over num_chunks, as matmul_forward.
//   x       [num_rows, >= in_size]  its leading columns are used
//   packed  [ceil(out_size / 16), in_size, 16]
//   y       [num_rows, out_size]    out
void packed_matmul_forward(const Tensor& x, const Tensor& packed, Tensor& y, int num_chunks,
                           Stream& stream);

// The same for many experts at once, as grouped_matmul_forward.
//   x        [num_rows, in_size]
//   packed   [num_experts, ceil(out_size / 16), in_size, 16]
//   offsets  [num_experts + 1] int64: rows [offsets[e], offsets[e + 1]) belong to expert e
//   y        [num_rows, out_size]  out
// Offsets that do not ascend from 0 to num_rows throw InternalError.
void packed_grouped_matmul_forward(const Tensor& x, const Tensor& packed, const Tensor& offsets,
                                   Tensor& y, Stream& stream);

// The same for heads, each of which multiplies columns of its own: y_h = x_h W_h^T.
//   x       [num_rows, num_heads * x_size], x_size >= in_size: of each head's columns the leading
//           ones are used
//   packed  [num_heads, ceil(out_size / 16), in_size, 16]
//   y       [num_rows, num_heads * out_size]  out
void packed_head_matmul_forward(const Tensor& x, const Tensor& packed, Tensor& y, Stream& stream);

extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)>
    packed_head_matmul_forward_slot;

}  // namespace fathom::kernels
