#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/address_range.h"
#include "core/device.h"

namespace fathom {

// Work that a queue has recorded; see Graph.
class DeviceGraph {
 public:
  virtual ~DeviceGraph() = default;
  virtual void launch() = 0;  // on that queue; asynchronous
};

// A point in the work of a queue.
class DeviceMark {
 public:
  virtual ~DeviceMark() = default;
  // Once the device has passed both.
  virtual double milliseconds_since(const DeviceMark& earlier) const = 0;
};

// The device's side of a Stream: work is done in the order in which it was given. The CPU and the
// meta device have none.
class DeviceQueue {
 public:
  virtual ~DeviceQueue() = default;
  virtual void* native() const noexcept = 0;
  virtual void synchronize() = 0;  // returns when all work given so far is done
  // How often the host has waited for all work given so far: synchronize(), copy_to_host().
  virtual std::int64_t num_waits() const noexcept = 0;
  // Asynchronous.
  virtual void fill_zero(std::byte* to, std::int64_t bytes) = 0;
  virtual void copy(const std::byte* from, std::byte* to, std::int64_t bytes) = 0;
  // Returns when `from`, host memory, may be changed again.
  virtual void copy_from_host(const std::byte* from, std::byte* to, std::int64_t bytes) = 0;
  // Returns when the bytes are in host memory.
  virtual void copy_to_host(const std::byte* from, std::byte* to, std::int64_t bytes) = 0;
  virtual std::unique_ptr<DeviceMark> mark() = 0;
  // In between, what is given is recorded instead of done; what would wait for it, or takes from or
  // leaves in host memory, throws InternalError.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<DeviceGraph> end_capture() = 0;
  virtual void abandon_capture() noexcept = 0;
  // Names for what is given between the two, for a profiler; see ProfilerRange.
  virtual void begin_range(const char* /*name*/) {}
  virtual void end_range() {}
};

// What the core needs of a kind of device. All throw DeviceError.
class DeviceBackend {
 public:
  virtual ~DeviceBackend() = default;
  virtual int num_devices() const = 0;
  // What no other device of any node has: the same card in every process that sees it.
  virtual std::array<std::int64_t, 2> unique_id(int index) const = 0;
  // bfloat16 operations a second that the maker states for the device's dense products; 0: unknown.
  virtual double peak_flops(int index) const = 0;
  virtual std::unique_ptr<AddressRange> make_address_range(int index) const = 0;
  virtual std::unique_ptr<DeviceQueue> make_queue(int index) const = 0;
};

bool has_device_backend(DeviceType type) noexcept;
// Throws DeviceError when this build has no such backend.
const DeviceBackend& device_backend(DeviceType type);

// One static object of this type in a backend's file makes it known, as kernels are.
struct DeviceBackendRegistration {
  DeviceBackendRegistration(DeviceType type, const DeviceBackend& backend);
};

}  // namespace fathom
