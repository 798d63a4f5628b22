#include "core/cuda/graph.h"

#include <exception>

#include "core/cuda/check.h"

namespace fathom {

CudaGraph::CudaGraph(cudaGraph_t captured, CudaQueue& queue) : queue_(queue) {
  const cudaError_t status = cudaGraphInstantiate(&executable_, captured, 0);
  cudaGraphDestroy(captured);
  check_cuda(status, "cudaGraphInstantiate");
}

// One that is under way is done to its end. A rank that unwinds leaves everything to the end of the
// process, as the queue does.
CudaGraph::~CudaGraph() {
  if (std::uncaught_exceptions() == 0) {
    cudaGraphExecDestroy(executable_);
  }
}

void CudaGraph::launch() {
  queue_.use_device();
  check_cuda(cudaGraphLaunch(executable_, queue_.stream()), "cudaGraphLaunch");
}

}  // namespace fathom
