#pragma once

#include <cuda_bf16.h>

#include "core/stream.h"
#include "kernels/cuda/grouped_tiles.h"

namespace fathom::kernels::cuda {

// The data of a grouped product C = A B (grouped_tiles.h) of T = float or __nv_bfloat16.
//                    a    b    c
//   kForward         x    w    y   T
//   kBackwardInput   dy   w    dx  T
//   kBackwardWeight  dy   x    dw  float
template <class T>
struct GroupedOperands {
  const T* a = nullptr;
  const T* b = nullptr;
  void* c = nullptr;
};

// For any sizes, on the arithmetic units for float.
template <GroupedProduct kProduct, class T>
void grouped_product_general(const GroupedOperands<T>& operands, const GroupedSizes& sizes,
                             Stream& stream);

// For sizes that are not 0 and multiples of 8, and pointers that are multiples of 16 bytes, on the
// tensor cores.
template <GroupedProduct kProduct>
void grouped_product_sm90(const GroupedOperands<__nv_bfloat16>& operands, const GroupedSizes& sizes,
                          Stream& stream);

// Multiprocessors of the stream's device.
int num_multiprocessors(Stream& stream);

}  // namespace fathom::kernels::cuda
