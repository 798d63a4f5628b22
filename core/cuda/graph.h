#pragma once

#include <cuda_runtime.h>

#include "core/cuda/queue.h"
#include "core/device_backend.h"

namespace fathom {

// A captured CUDA graph, ready to be launched.
class CudaGraph final : public DeviceGraph {
 public:
  // Takes `captured` over. The queue outlives it.
  CudaGraph(cudaGraph_t captured, CudaQueue& queue);
  ~CudaGraph() override;
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void launch() override;

 private:
  CudaQueue& queue_;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace fathom
