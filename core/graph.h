#pragma once

#include <functional>
#include <memory>

#include "core/allocator.h"
#include "core/device_backend.h"
#include "core/stream.h"

namespace fathom {

// Work of a stream that is recorded instead of done, and then given to the device again and again
// as one (CUDA graphs). It reads and writes the addresses that it was recorded with: what changes
// from one launch to the next is copied into tensors that live on.
class Graph {
 public:
  // Whether the stream's device can record: not the CPU and the meta device.
  static bool is_supported(const Stream& stream) { return stream.queue() != nullptr; }

  // Records what `work` gives to the stream, of which nothing is done. Tensors made meanwhile lie
  // in `memory`, a pool (pool_allocator.h) that the graph keeps. Graphs may share one if they are
  // launched on one stream and what a launch leaves in tensors of the pool is used before the next
  // of another graph. Every library and size must have been in use on the stream before. Throws
  // InternalError when `work` waits for the device or copies between it and the host.
  Graph(Stream& stream, std::shared_ptr<Allocator> memory, const std::function<void()>& work);

  // Asynchronous, on the stream that it was recorded from.
  void launch() { recorded_->launch(); }

 private:
  std::shared_ptr<Allocator> memory_;
  std::unique_ptr<DeviceGraph> recorded_;
};

}  // namespace fathom
