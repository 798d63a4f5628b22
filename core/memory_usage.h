#pragma once

#include <atomic>
#include <cstdint>

namespace fathom {

// Bytes in use and their peak, for allocators. The owner serializes the calls that change them.
class MemoryUsage {
 public:
  void add(std::int64_t bytes) noexcept {
    const std::int64_t now = in_use_.load(std::memory_order_relaxed) + bytes;
    in_use_.store(now, std::memory_order_relaxed);
    if (now > peak_.load(std::memory_order_relaxed)) {
      peak_.store(now, std::memory_order_relaxed);
    }
  }
  void subtract(std::int64_t bytes) noexcept {
    in_use_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  void reset_peak() noexcept { peak_.store(in_use_.load()); }
  std::int64_t in_use() const noexcept { return in_use_.load(std::memory_order_relaxed); }
  std::int64_t peak() const noexcept { return peak_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> in_use_{0};
  std::atomic<std::int64_t> peak_{0};
};

}  // namespace fathom
