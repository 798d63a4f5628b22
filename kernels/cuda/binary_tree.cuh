#pragma once

#include <cuda_runtime.h>

namespace fathom::kernels::cuda {

// Op over terms that come one after another, in a binary tree over their index: neighbours (0, 1),
// (2, 3), ... first, then those pairs, and so on; a term without a neighbour joins a level later
// (docs/numerics.md, rules 4 and 12). Less than 2^kLevels terms. Terms are taken as a binary
// counter counts them: on each level at most one partial result waits for its neighbour. Loops over
// levels are unrolled, so that what waits stays in registers.
template <class Op, int kLevels>
class BinaryTree {
 public:
  __device__ __forceinline__ void add(float term) {
    const int merges = __ffs(~num_terms_) - 1;  // trailing ones of the term's index
#pragma unroll
    for (int level = 0; level < kLevels; ++level) {
      if (level < merges) {
        term = Op::of(waiting_[level], term);
      }
      if (level == merges) {
        waiting_[level] = term;
      }
    }
    ++num_terms_;
  }
  __device__ __forceinline__ float result() const {
    float result = 0.0F;
    bool has_result = false;
#pragma unroll
    for (int level = 0; level < kLevels; ++level) {
      if ((num_terms_ >> level & 1) != 0) {
        result = has_result ? Op::of(waiting_[level], result) : waiting_[level];
        has_result = true;
      }
    }
    return result;
  }

 private:
  float waiting_[kLevels] = {};
  int num_terms_ = 0;
};

}  // namespace fathom::kernels::cuda
