#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/cuda/check.h"
#include "core/cuda/queue.h"
#include "core/error.h"

namespace fathom {

struct LaunchShape {
  std::int64_t num_blocks = 0;
  int num_threads = 0;            // of a block
  std::int64_t shared_bytes = 0;  // dynamic
};

// Where a block's dynamic shared memory begins.
__device__ inline std::byte* dynamic_shared() {
#ifdef FATHOM_CUDA_EMULATED
  return emulator::current->dynamic_shared;
#else
  extern __shared__ __align__(1024) std::byte memory[];
  return memory;
#endif
}

// Puts a kernel of a one-dimensional grid on the stream; nothing when there are no blocks. Throws
// DeviceError.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape, Stream& stream,
            Arguments&&... arguments) {
  if (shape.num_blocks == 0) {
    return;
  }
  FATHOM_CHECK(shape.num_blocks > 0 && shape.num_blocks < (std::int64_t{1} << 31), shape.num_blocks,
               " blocks");
  constexpr std::int64_t kSharedWithoutAsking = 48 << 10;
  CudaQueue& queue = cuda_queue(stream);
  queue.use_device();
  if (shape.shared_bytes > kSharedWithoutAsking) {
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)),
               "cudaFuncSetAttribute of dynamic shared memory");
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.num_blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.num_threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shape.shared_bytes);
  config.stream = queue.stream();
  check_cuda(cudaLaunchKernelEx(
                 &config, kernel,
                 static_cast<std::decay_t<Parameters>>(std::forward<Arguments>(arguments))...),
             "cudaLaunchKernelEx");
}

// ceil(count / size): blocks that together cover `count` items.
constexpr std::int64_t blocks_for(std::int64_t count, std::int64_t size) {
  return (count + size - 1) / size;
}

}  // namespace fathom
