#pragma once

#include <cstdint>
#include <memory>

#include "core/device.h"

namespace fathom {

// Memory of one device, reused between tensors so that a steady training step asks the system for
// nothing. The CPU implementation carves best-fit blocks out of one reserved address range and
// merges them when freed; the meta implementation only counts. Thread-safe. It must outlive no one:
// tensors share ownership of it.
class Allocator {
 public:
  virtual ~Allocator() = default;
  // `bytes` of uninitialized memory aligned to 64; null on the meta device or for 0 bytes. Throws
  // DeviceError with the numbers when the device has no more.
  virtual void* allocate(std::int64_t bytes) = 0;
  virtual void free(void* pointer, std::int64_t bytes) noexcept = 0;

  // Bytes in live tensors (each rounded up to 64), now and at the highest point since reset_peak().
  virtual std::int64_t bytes_in_use() const noexcept = 0;
  virtual std::int64_t peak_bytes() const noexcept = 0;
  virtual void reset_peak() noexcept = 0;
  // Bytes ever taken from the system: constant over a steady step.
  virtual std::int64_t bytes_reserved() const noexcept = 0;
};

std::shared_ptr<Allocator> make_allocator(Device device);

}  // namespace fathom
