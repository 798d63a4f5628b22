#pragma once

#include <cuda_runtime.h>

#include <array>
#include <memory>
#include <typeindex>
#include <unordered_map>

#include "core/device_backend.h"
#include "core/stream.h"

namespace fathom {

// A CUDA stream of one device with the staging memory and the library handles that belong to it.
class CudaQueue final : public DeviceQueue {
 public:
  explicit CudaQueue(int device);
  ~CudaQueue() override;
  CudaQueue(const CudaQueue&) = delete;
  CudaQueue& operator=(const CudaQueue&) = delete;

  int device() const noexcept { return device_; }
  cudaStream_t stream() const noexcept { return stream_; }
  void* native() const noexcept override { return stream_; }
  void synchronize() override;
  std::int64_t num_waits() const noexcept override { return num_waits_; }
  void fill_zero(std::byte* to, std::int64_t bytes) override;
  void copy(const std::byte* from, std::byte* to, std::int64_t bytes) override;
  void copy_from_host(const std::byte* from, std::byte* to, std::int64_t bytes) override;
  void copy_to_host(const std::byte* from, std::byte* to, std::int64_t bytes) override;
  std::unique_ptr<DeviceMark> mark() override;
  void begin_capture() override;
  std::unique_ptr<DeviceGraph> end_capture() override;
  void abandon_capture() noexcept override;
  bool is_capturing() const noexcept { return is_capturing_; }
  void begin_range(const char* name) override;
  void end_range() override;

  // The one State of this queue, made by State(queue) when it is first asked for: a library's
  // handle, its workspace, its cached plans. A backend that keeps such things here needs no
  // globals, and two streams never share a workspace.
  template <class State>
  State& state() {
    std::shared_ptr<void>& slot = (*states_)[std::type_index(typeid(State))];
    if (slot == nullptr) {
      refuse_in_capture("setting up a library");
      slot = std::make_shared<State>(*this);
    }
    return *static_cast<State*>(slot.get());
  }

  // Makes this queue's device the calling thread's. Cheap when it is already.
  void use_device() const;

 private:
  // Pinned memory that a copy passes through; `free_again` marks its last use on the stream.
  struct Staging {
    std::byte* memory = nullptr;
    cudaEvent_t free_again = nullptr;
  };
  Staging& next_staging();
  void refuse_in_capture(const char* what) const;

  int device_;
  cudaStream_t stream_ = nullptr;
  bool is_capturing_ = false;
  std::int64_t num_waits_ = 0;
  std::array<Staging, 2> staging_;
  std::size_t next_staging_ = 0;
  using States = std::unordered_map<std::type_index, std::shared_ptr<void>>;
  std::unique_ptr<States> states_ = std::make_unique<States>();
};

// The queue of a CUDA stream.
inline CudaQueue& cuda_queue(Stream& stream) { return static_cast<CudaQueue&>(*stream.queue()); }

}  // namespace fathom
