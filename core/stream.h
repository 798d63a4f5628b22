#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "core/allocator.h"
#include "core/device.h"
#include "core/device_backend.h"

namespace fathom {

class ThreadPool;

// What the order in which an element's terms are added may depend on (docs/numerics.md).
enum class SumOrder {
  kFastest,  // the sizes of the whole call: a library may take another kernel for more rows
  kFixed,    // the element alone: whatever is computed beside it, its bits are the same. The CPU's
             // always.
};

// An ordered queue of work on one device, with the memory and (on the CPU) the threads that the
// work uses. On the CPU each call runs at once. Not copyable; one host thread drives a stream at a
// time.
//
// The threads of a CPU stream, its creator included, compute in one floating-point environment:
// rounding to nearest, denormals kept, no traps (docs/numerics.md, rule 11). Making a stream sets
// it for the calling thread; parallel_for throws InternalError where other code has changed it.
class Stream {
 public:
  // num_threads: host threads that kernels of a CPU stream and work on the host for other devices
  // may use, the caller included. `order` is what kernels of other devices keep to.
  explicit Stream(Device device = {}, int num_threads = 1, SumOrder order = SumOrder::kFastest);
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  Device device() const noexcept { return device_; }
  bool is_meta() const noexcept { return device_.type == DeviceType::kMeta; }
  SumOrder sum_order() const noexcept { return order_; }
  // The device's own queue; null on the CPU and the meta device, where there is nothing to wait
  // for.
  DeviceQueue* queue() const noexcept { return queue_.get(); }
  const std::shared_ptr<Allocator>& allocator() const noexcept { return allocator_; }
  // From here on tensors are made in `allocator`'s memory, of the same device -> the one before.
  std::shared_ptr<Allocator> exchange_allocator(std::shared_ptr<Allocator> allocator) noexcept {
    return std::exchange(allocator_, std::move(allocator));
  }
  int num_threads() const noexcept;

  void synchronize() {  // blocks until all work queued so far is done
    if (queue_) {
      queue_->synchronize();
    }
  }

  // Calls body(begin, end) on disjoint ranges that together cover [0, count), one range a thread,
  // each of at least `grain` items except when count is smaller. Threads split outputs only, never
  // a reduction, so results do not depend on their number. Returns when all are done; an exception
  // of a range is rethrown. On a stream of another device it is for work on the host, which does
  // not wait for the device; never on the meta device.
  void parallel_for(std::int64_t count, std::int64_t grain,
                    const std::function<void(std::int64_t begin, std::int64_t end)>& body);

 private:
  Device device_;
  SumOrder order_;
  std::shared_ptr<Allocator> allocator_;
  std::unique_ptr<DeviceQueue> queue_;
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace fathom
