#pragma once

#include "core/stream.h"
#include "core/tensor.h"

// What kernels/packed_matmul.h says of the functions that the CPU alone has, after its checks.
namespace fathom::kernels::cpu {

void pack_weight(const Tensor& w, Tensor& packed, Stream& stream);
void packed_matmul_forward(const Tensor& x, const Tensor& packed, Tensor& y, int num_chunks,
                           Stream& stream);
void packed_grouped_matmul_forward(const Tensor& x, const Tensor& packed, const Tensor& offsets,
                                   Tensor& y, Stream& stream);

}  // namespace fathom::kernels::cpu
