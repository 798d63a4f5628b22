#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/stream.h"
#include "kernels/cuda/grouped_tiles.h"
#include "kernels/gradient_sum.h"

namespace fathom::kernels::cuda {

// A matrix in device memory, or as many as there are experts, one after another.
struct RowMajor {
  std::byte* data = nullptr;
  DType dtype = DType::kFloat32;
  std::int64_t stride = 0;  // elements from one row to the next, as stored
};

// The matrices of a product C = A B (grouped_tiles.h), as they are stored.
//                    a    b    c
//   kForward         x    w    y   T or float32
//   kBackwardInput   dy   w    dx  T or float32
//   kBackwardWeight  dy   x    dw  float32 or int64
// T, the dtype of a and b, is float32 or bfloat16.
struct GroupedOperands {
  RowMajor a;
  RowMajor b;
  RowMajor c;
  // With an int64 c: that gradient, to which each part of an expert's tokens is one contribution.
  GradientSum* gradient = nullptr;
};

// C = A B, or with is_adding C += A B, by kernels of our own: an element's sum is in float32, over
// ascending depth from 0 on (a contribution's over ascending tokens of its part), whatever is
// computed beside it, and rounded once, after what C held was added. With SumOrder::kFixed in_size
// and out_size alone decide which kernel it is; those that are multiples of 8 then demand, with
// bfloat16, addresses and strides that are multiples of 16 bytes. Throws InternalError.
void grouped_product(GroupedProduct product, const GroupedOperands& operands,
                     const GroupedSizes& sizes, Stream& stream);

// For any sizes, on the arithmetic units for float.
void grouped_product_general(GroupedProduct product, const GroupedOperands& operands,
                             const GroupedSizes& sizes, Stream& stream);

// For bfloat16, sizes that are not 0 and multiples of 8, and addresses and strides that are
// multiples of 16 bytes, on the tensor cores.
void grouped_product_sm90(GroupedProduct product, const GroupedOperands& operands,
                          const GroupedSizes& sizes, Stream& stream);
void grouped_contributions_sm90(const GroupedOperands& operands, const GroupedSizes& sizes,
                                Stream& stream);  // kBackwardWeight into int64

// A dimension as kernels take it. Throws InternalError if it is too large.
int to_int(std::int64_t size);

}  // namespace fathom::kernels::cuda
