#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::kernels::cuda {

// The order that sorts keys, equal ones by index: keys[order[i]] <= keys[order[i + 1]].
//   keys   [n] int32, each in [0, num_keys); one outside is put anywhere, but `order` stays a
//          permutation
//   order  [n] int32
// A radix sort, 8 bits a pass; asynchronous on a CUDA `stream`.
Tensor stable_order(const Tensor& keys, std::int64_t num_keys, Stream& stream);

}  // namespace fathom::kernels::cuda
