#pragma once

#include <cstdint>
#include <memory>

#include "core/device.h"

namespace fathom {

// Memory of one device, reused between tensors so that a steady training step asks the system for
// nothing. Best-fit blocks are carved out of one reserved range of addresses and merged when freed;
// the meta implementation only counts. What is freed is used again at once, which is right for work
// in the order of one stream. Thread-safe. It must outlive no one: tensors share ownership of it.
class Allocator {
 public:
  virtual ~Allocator() = default;
  // `bytes` of uninitialized memory aligned to 64, on CUDA to 256; null on the meta device or for 0
  // bytes. Throws DeviceError with the numbers when the device has no more.
  virtual void* allocate(std::int64_t bytes) = 0;
  virtual void free(void* pointer, std::int64_t bytes) noexcept = 0;

  // Bytes in live tensors (each rounded up to the alignment), now and at the highest point since
  // reset_peak().
  virtual std::int64_t bytes_in_use() const noexcept = 0;
  virtual std::int64_t peak_bytes() const noexcept = 0;
  virtual void reset_peak() noexcept = 0;
  // Bytes ever taken from the system: constant over a steady step.
  virtual std::int64_t bytes_reserved() const noexcept = 0;
};

std::shared_ptr<Allocator> make_allocator(Device device);

}  // namespace fathom
