#pragma once

#include <cuda_runtime.h>

#include <cstddef>

namespace fathom::kernels::cuda {

// Takes pieces of the dynamic shared memory, each a whole number of 16 bytes; on the host, with
// null, it measures.
class SharedMemory {
 public:
  __host__ __device__ explicit SharedMemory(std::byte* memory) : memory_(memory) {}
  template <class T>
  __host__ __device__ T* take(int count) {
    std::byte* const piece = memory_ + used_;
    used_ += (count * static_cast<int>(sizeof(T)) + 15) / 16 * 16;
    return reinterpret_cast<T*>(piece);
  }
  __host__ __device__ int used() const { return used_; }

 private:
  std::byte* memory_;
  int used_ = 0;
};

}  // namespace fathom::kernels::cuda
