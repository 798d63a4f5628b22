#include "core/cuda/queue.h"

#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "core/cuda/check.h"
#include "core/cuda/graph.h"
#include "core/error.h"

namespace fathom {
namespace {

constexpr std::int64_t kStagingBytes = std::int64_t{8} << 20;

class CudaMark final : public DeviceMark {
 public:
  explicit CudaMark(cudaStream_t stream) {
    check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDefault), "cudaEventCreate");
    check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord");
  }
  ~CudaMark() override { cudaEventDestroy(event_); }
  CudaMark(const CudaMark&) = delete;
  CudaMark& operator=(const CudaMark&) = delete;
  double milliseconds_since(const DeviceMark& earlier) const override {
    float milliseconds = 0.0F;
    check_cuda(
        cudaEventElapsedTime(&milliseconds, static_cast<const CudaMark&>(earlier).event_, event_),
        "cudaEventElapsedTime");
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

CudaQueue::CudaQueue(int device) : device_(device) {
  use_device();
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  for (Staging& staging : staging_) {
    void* memory = nullptr;
    check_cuda(cudaMallocHost(&memory, kStagingBytes), "cudaMallocHost");
    staging.memory = static_cast<std::byte*>(memory);
    check_cuda(cudaEventCreateWithFlags(&staging.free_again, cudaEventDisableTiming),
               "cudaEventCreate");
  }
}

// Errors while a program ends help nobody: they are not looked at. A rank that unwinds must come to
// its end, which tells the others: it does not wait for a device that may wait for them, and leaves
// everything to the end of the process.
CudaQueue::~CudaQueue() {
  if (std::uncaught_exceptions() > 0) {
    [[maybe_unused]] States* const left_alive = states_.release();
    return;
  }
  cudaSetDevice(device_);
  if (stream_ != nullptr) {
    cudaStreamSynchronize(stream_);
  }
  states_.reset();
  for (Staging& staging : staging_) {
    if (staging.free_again != nullptr) {
      cudaEventDestroy(staging.free_again);
    }
    cudaFreeHost(staging.memory);
  }
  if (stream_ != nullptr) {
    cudaStreamDestroy(stream_);
  }
}

void CudaQueue::use_device() const { check_cuda(cudaSetDevice(device_), "cudaSetDevice"); }

void CudaQueue::refuse_in_capture(const char* what) const {
  FATHOM_CHECK(!is_capturing_, what, " while work for cuda:", device_,
               " is recorded: a graph knows nothing of the host");
}

void CudaQueue::synchronize() {
  refuse_in_capture("waiting for the device");
  use_device();
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  ++num_waits_;
}

void CudaQueue::fill_zero(std::byte* to, std::int64_t bytes) {
  use_device();
  check_cuda(cudaMemsetAsync(to, 0, static_cast<std::size_t>(bytes), stream_), "cudaMemsetAsync");
}

void CudaQueue::copy(const std::byte* from, std::byte* to, std::int64_t bytes) {
  use_device();
  check_cuda(
      cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice, stream_),
      "cudaMemcpyAsync between places of a device");
}

std::unique_ptr<DeviceMark> CudaQueue::mark() {
  use_device();
  return std::make_unique<CudaMark>(stream_);
}

// Of this thread's calls only: what NCCL's watch does meanwhile is its own business.
void CudaQueue::begin_capture() {
  refuse_in_capture("a second recording");
  use_device();
  check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
             "cudaStreamBeginCapture");
  is_capturing_ = true;
}

std::unique_ptr<DeviceGraph> CudaQueue::end_capture() {
  is_capturing_ = false;
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
  return std::make_unique<CudaGraph>(graph, *this);
}

void CudaQueue::abandon_capture() noexcept {
  is_capturing_ = false;
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream_, &graph);  // why it is abandoned is under way as an exception
  if (graph != nullptr) {
    cudaGraphDestroy(graph);
  }
}

void CudaQueue::begin_range(const char* name) { nvtxRangePushA(name); }

void CudaQueue::end_range() { nvtxRangePop(); }

CudaQueue::Staging& CudaQueue::next_staging() {
  Staging& staging = staging_[next_staging_];
  next_staging_ = (next_staging_ + 1) % staging_.size();
  check_cuda(cudaEventSynchronize(staging.free_again), "cudaEventSynchronize");
  return staging;
}

void CudaQueue::copy_from_host(const std::byte* from, std::byte* to, std::int64_t bytes) {
  refuse_in_capture("a copy from the host");
  use_device();
  for (std::int64_t first = 0; first < bytes; first += kStagingBytes) {
    const auto count = static_cast<std::size_t>(std::min(kStagingBytes, bytes - first));
    Staging& staging = next_staging();
    std::memcpy(staging.memory, from + first, count);
    check_cuda(cudaMemcpyAsync(to + first, staging.memory, count, cudaMemcpyHostToDevice, stream_),
               "cudaMemcpyAsync to the device");
    check_cuda(cudaEventRecord(staging.free_again, stream_), "cudaEventRecord");
  }
}

void CudaQueue::copy_to_host(const std::byte* from, std::byte* to, std::int64_t bytes) {
  refuse_in_capture("a copy to the host");
  use_device();
  for (std::int64_t first = 0; first < bytes; first += kStagingBytes) {
    const auto count = static_cast<std::size_t>(std::min(kStagingBytes, bytes - first));
    Staging& staging = next_staging();
    check_cuda(
        cudaMemcpyAsync(staging.memory, from + first, count, cudaMemcpyDeviceToHost, stream_),
        "cudaMemcpyAsync to the host");
    check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    ++num_waits_;
    std::memcpy(to + first, staging.memory, count);
  }
}

}  // namespace fathom
