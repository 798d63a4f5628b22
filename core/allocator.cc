#include "core/allocator.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <mutex>

#include "core/address_range.h"
#include "core/best_fit_blocks.h"
#include "core/device_backend.h"
#include "core/error.h"
#include "core/memory_usage.h"
#include "core/round_up.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace fathom {
namespace {

#if defined(__SANITIZE_ADDRESS__)
void forbid_access(void* pointer, std::int64_t bytes) noexcept {
  ASAN_POISON_MEMORY_REGION(pointer, static_cast<std::size_t>(bytes));
}
// The bytes become readable; they are NaN in every floating-point type, so that a read of undefined
// memory shows.
void allow_access(void* pointer, std::int64_t bytes) noexcept {
  ASAN_UNPOISON_MEMORY_REGION(pointer, static_cast<std::size_t>(bytes));
  std::memset(pointer, 0xff, static_cast<std::size_t>(bytes));
}
void forget_access(void* pointer, std::int64_t bytes) noexcept {
  ASAN_UNPOISON_MEMORY_REGION(pointer, static_cast<std::size_t>(bytes));
}
#else
void forbid_access(void* /*pointer*/, std::int64_t /*bytes*/) noexcept {}
void allow_access(void* /*pointer*/, std::int64_t /*bytes*/) noexcept {}
void forget_access(void* /*pointer*/, std::int64_t /*bytes*/) noexcept {}
#endif

constexpr std::int64_t kGuardBytes = std::int64_t{64} << 10;

class BestFitAllocator final : public Allocator {
 public:
  explicit BestFitAllocator(std::unique_ptr<AddressRange> range) : range_(std::move(range)) {}
  ~BestFitAllocator() override {
    if (range_->is_host_memory()) {
      forget_access(range_->base(), high_water_ + guard_bytes());
    }
  }
  BestFitAllocator(const BestFitAllocator&) = delete;
  BestFitAllocator& operator=(const BestFitAllocator&) = delete;

  void* allocate(std::int64_t bytes) override {
    FATHOM_CHECK(bytes >= 0, bytes, " bytes");
    if (bytes == 0) {
      return nullptr;
    }
    const std::int64_t rounded = round_up(bytes, range_->alignment());
    std::byte* pointer = nullptr;
    {
      const std::lock_guard lock(mutex_);
      pointer = blocks_.take(rounded);
      if (pointer == nullptr) {
        extend(rounded);
        pointer = blocks_.take(rounded);
      }
      usage_.add(rounded);
    }
    if (range_->is_host_memory()) {
      allow_access(pointer, bytes);  // what lies behind the last byte stays forbidden
    }
    return pointer;
  }

  void free(void* pointer, std::int64_t bytes) noexcept override {
    if (pointer == nullptr) {
      return;
    }
    const std::int64_t rounded = round_up(bytes, range_->alignment());
    if (range_->is_host_memory()) {
      forbid_access(pointer, rounded);
    }
    const std::lock_guard lock(mutex_);
    blocks_.give_back(static_cast<std::byte*>(pointer), rounded);
    usage_.subtract(rounded);
  }

  std::int64_t bytes_in_use() const noexcept override { return usage_.in_use(); }
  std::int64_t peak_bytes() const noexcept override { return usage_.peak(); }
  void reset_peak() noexcept override {
    const std::lock_guard lock(mutex_);
    usage_.reset_peak();
  }
  std::int64_t bytes_reserved() const noexcept override {
    const std::lock_guard lock(mutex_);
    return range_->committed_bytes();
  }

 private:
  // A free block of `bytes` at the end, which takes in a last block that is free.
  void extend(std::int64_t bytes) {
    const std::int64_t end = high_water_.load();
    const std::int64_t offset = end - blocks_.free_at_end();
    if (bytes > range_->bytes() - offset) {
      throw DeviceError(concat("out of memory: ", bytes, " bytes asked for, ", usage_.in_use(),
                               " in use, ", end, " reserved of an address range of ",
                               range_->bytes()));
    }
    range_->commit(offset + bytes);
    blocks_.extend(range_->base() + end, offset + bytes - end);
    high_water_.store(offset + bytes, std::memory_order_relaxed);
    if (range_->is_host_memory()) {
      forbid_access(range_->base() + offset, bytes + guard_bytes());
    }
  }

  // What lies behind the last block is forbidden this far: forbidding the whole range would touch
  // its shadow.
  std::int64_t guard_bytes() const noexcept {
    return std::min(kGuardBytes, range_->bytes() - high_water_);
  }

  std::unique_ptr<AddressRange> range_;
  mutable std::mutex mutex_;
  MemoryUsage usage_;
  std::atomic<std::int64_t> high_water_{0};
  BestFitBlocks blocks_;
};

constexpr std::int64_t kMetaAlignment = 64;  // as on the CPU

class MetaAllocator final : public Allocator {
 public:
  void* allocate(std::int64_t bytes) override {
    FATHOM_CHECK(bytes >= 0, bytes, " bytes");
    const std::lock_guard lock(mutex_);
    usage_.add(round_up(bytes, kMetaAlignment));
    reserved_.store(std::max(reserved_.load(), usage_.in_use()));
    return nullptr;
  }
  void free(void* /*pointer*/, std::int64_t bytes) noexcept override {
    const std::lock_guard lock(mutex_);
    usage_.subtract(round_up(bytes, kMetaAlignment));
  }
  std::int64_t bytes_in_use() const noexcept override { return usage_.in_use(); }
  std::int64_t peak_bytes() const noexcept override { return usage_.peak(); }
  void reset_peak() noexcept override {
    const std::lock_guard lock(mutex_);
    usage_.reset_peak();
  }
  std::int64_t bytes_reserved() const noexcept override { return reserved_.load(); }

 private:
  std::mutex mutex_;
  MemoryUsage usage_;
  std::atomic<std::int64_t> reserved_{0};
};

}  // namespace

std::shared_ptr<Allocator> make_allocator(Device device) {
  switch (device.type) {
    case DeviceType::kCpu:
      return std::make_shared<BestFitAllocator>(make_host_address_range());
    case DeviceType::kMeta:
      return std::make_shared<MetaAllocator>();
    case DeviceType::kCuda:
      break;
  }
  return std::make_shared<BestFitAllocator>(
      device_backend(device.type).make_address_range(device.index));
}

}  // namespace fathom
