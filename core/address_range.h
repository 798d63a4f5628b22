#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fathom {

// Addresses [base, base + bytes) of one device, backed by memory from the start up to what has been
// committed.
class AddressRange {
 public:
  virtual ~AddressRange() = default;
  virtual std::byte* base() const noexcept = 0;
  virtual std::int64_t bytes() const noexcept = 0;
  // Of every block in it; a power of two.
  virtual std::int64_t alignment() const noexcept = 0;
  virtual bool is_host_memory() const noexcept = 0;
  // At least the first `bytes` are backed by memory from here on. Throws DeviceError with the
  // numbers when the device has no more.
  virtual void commit(std::int64_t bytes) = 0;
  // Backed by memory: on the CPU, where pages come when they are touched, what was asked for.
  virtual std::int64_t committed_bytes() const noexcept = 0;
};

// As many addresses as the machine has memory, at least 64 GiB where the system allows it.
std::unique_ptr<AddressRange> make_host_address_range();

}  // namespace fathom
