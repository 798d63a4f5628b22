#pragma once

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"
#include "kernels/matmul.h"

namespace fathom::kernels {

// The products of kernels/matmul.h for many experts at once: rows [offsets[e], offsets[e+1]) of the
// row tensors belong to expert e. An expert without rows adds nothing to its weight gradient.
//   offsets    [num_experts + 1] int64, ascending, offsets[0] = 0, last = num_rows
//   x, dx      [num_rows, in_size]
//   w, dw      [num_experts, out_size, in_size]
//   y, dy      [num_rows, out_size]
//   part_offsets  [num_experts * parts + 1] int64: the same with each expert's rows cut further
//                 into parts, some of which may be empty; a part is one contribution to the
//                 expert's dw
// x, w and y float32, on other devices than the CPU also bfloat16, all of one call alike. Same
// definition of an element as matmul.h. Throws InternalError on a mismatch; on CUDA the offsets
// stay on the device and are not checked: what they leave out is not written. An expert's rows and
// weights that are NaN or infinite reach no other expert.
void grouped_matmul_forward(const Tensor& x, const Tensor& w, const Tensor& offsets, Tensor& y,
                            Stream& stream);
void grouped_matmul_backward_input(const Tensor& dy, const Tensor& w, const Tensor& offsets,
                                   Tensor& dx, Stream& stream);
void grouped_matmul_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& part_offsets,
                                    GradientSum& dw, Stream& stream);

// For backends; arguments as above.
extern constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    grouped_matmul_forward_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    grouped_matmul_backward_input_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, GradientSum&,
                                 Stream&)>
    grouped_matmul_backward_weight_slot;

}  // namespace fathom::kernels
