#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/cuda/launch.cuh"

namespace fathom::kernels::cuda {

// How blocks of kThreads share out rows that have equally many items each: a power of two of
// threads a row, so that no thread divides, and as many rows a block as that leaves.
struct RowShare {
  static constexpr int kThreads = 256;

  // items_per_row >= 1
  static constexpr RowShare of(std::int64_t num_rows, std::int64_t items_per_row) {
    RowShare share{num_rows, items_per_row, 0};
    while ((1 << share.log_threads_per_row) < kThreads &&
           (1 << share.log_threads_per_row) < items_per_row) {
      ++share.log_threads_per_row;
    }
    return share;
  }
  constexpr std::int64_t num_blocks() const {
    return blocks_for(num_rows, kThreads >> log_threads_per_row);
  }

  // Calls body(row, item) for what is this thread's.
  template <class Body>
  __device__ __forceinline__ void for_each(const Body& body) const {
    const int thread = static_cast<int>(threadIdx.x);
    const int threads_per_row = 1 << log_threads_per_row;
    const std::int64_t row = (std::int64_t{blockIdx.x} * kThreads + thread) >> log_threads_per_row;
    if (row >= num_rows) {
      return;
    }
    for (std::int64_t item = thread & (threads_per_row - 1); item < items_per_row;
         item += threads_per_row) {
      body(row, item);
    }
  }

  std::int64_t num_rows;
  std::int64_t items_per_row;
  int log_threads_per_row;
};

}  // namespace fathom::kernels::cuda
