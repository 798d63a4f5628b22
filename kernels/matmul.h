#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"
#include "kernels/gradient_sum.h"

namespace fathom::kernels {

// The three matrix products of a linear layer y = x W^T. Definition of every element on the CPU
// (docs/numerics.md, rule 1): the inner dimension is cut in slices of 256; each slice is a chain
// acc = fma(a, b, acc) in ascending order from +0; slices are added in ascending order (with kAdd,
// onto what the output holds). So an element depends on its row, its column and the inner size
// alone, never on the other rows, on threads or on how a caller batched. An inner size of 0 gives
// zeros. CUDA rounds a float32 dy beside bfloat16 to bfloat16 first. On a stream of
// SumOrder::kFixed it sums in float32 over ascending depth, so that an element depends on the same
// things; bfloat16 whose sizes are multiples of 8 (of a chunk, where there are some) then demands
// addresses and rows that are multiples of 16 bytes. On one of SumOrder::kFastest the order follows
// from all sizes, and kAdd to bfloat16 rounds the product before the sum.
//
// A sum over an inner dimension that tensor parallelism may cut (rule 4) is a binary tree over
// `num_chunks` equal parts, each of them a product as above: neighbours (0, 1), (2, 3), ... first,
// then those pairs, and so on; it is rounded once, at its end. num_chunks is a power of two that
// divides the inner size, and 1 with kAdd. SumOrder::kFastest ignores it.
//
// x and dx may have more columns than the product needs: the leading ones are used, the others left
// alone.
//   x, dx  [num_rows, >= in_size]
//   w, dw  [out_size, in_size]; of dw each unit of rows is one contribution
//   y, dy  [num_rows, out_size]
// All float32; on other devices than the CPU x and w may be bfloat16, and then y, dy and dx
// bfloat16 or float32; sums are float32 everywhere, but those of contributions
// (kernels/gradient_sum.h). Outputs must not alias inputs. Throws InternalError on a shape or dtype
// mismatch.
void matmul_forward(const Tensor& x, const Tensor& w, Tensor& y, int num_chunks,
                    Stream& stream);  // y = x W^T
struct InputGradientOptions {
  Accumulate accumulate = Accumulate::kOverwrite;
  int num_chunks = 1;
};
void matmul_backward_input(const Tensor& dy, const Tensor& w, Tensor& dx,
                           const InputGradientOptions& options, Stream& stream);  // dx (+)= dy W
void matmul_backward_weight(const Tensor& dy, const Tensor& x, GradientSum& dw,
                            Stream& stream);  // dW += dy^T x

// The length of a slice.
inline constexpr std::int64_t kInnerSlice = 256;

// For backends.
extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, int, Stream&)>
    matmul_forward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, const InputGradientOptions&,
                                 Stream&)>
    matmul_backward_input_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, GradientSum&, Stream&)>
    matmul_backward_weight_slot;

}  // namespace fathom::kernels
