#pragma once

#include <cuda_runtime.h>

#include "core/cuda/check.h"
#include "core/cuda/queue.h"

namespace fathom::kernels::cuda {

// Multiprocessors of the stream's device.
inline int num_multiprocessors(Stream& stream) {
  int count = 0;
  check_cuda(
      cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, cuda_queue(stream).device()),
      "cudaDeviceGetAttribute of the multiprocessors");
  return count;
}

}  // namespace fathom::kernels::cuda
