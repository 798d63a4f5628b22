#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::kernels::cuda {

// What the counts of a block's warps leave room for.
inline constexpr int kMaxSortBins = 1024;

// A stable sort of `count` elements into bins. An element's bin is (keys[element] >> shift) & mask,
// of the key as an unsigned number; one beyond the bins goes to the last.
struct SortIntoBins {
  const std::int32_t* keys;
  const std::int32_t* elements;  // [count] in their order before; null: 0, 1, 2, ...
  std::int64_t count;
  int shift;
  std::uint32_t mask;
  int num_bins;  // at most kMaxSortBins
};
struct SortedIntoBins {
  std::int64_t* counts;      // [num_bins] out
  std::int32_t* element_at;  // [count] out: the elements, bin by bin
  std::int32_t* place_of;    // [count] out: the inverse; null: not wanted
};
// A counting sort without atomics on places; asynchronous on a CUDA `stream`.
void sort_into_bins(const SortIntoBins& sort, const SortedIntoBins& sorted, Stream& stream);

// The order that sorts keys, equal ones by index: keys[order[i]] <= keys[order[i + 1]].
//   keys   [n] int32, each in [0, num_keys); one outside is put anywhere, but `order` stays a
//          permutation
//   order  [n] int32
// A radix sort, 10 bits a pass; asynchronous on a CUDA `stream`.
Tensor stable_order(const Tensor& keys, std::int64_t num_keys, Stream& stream);

}  // namespace fathom::kernels::cuda
