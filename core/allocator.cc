#include "core/allocator.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <deque>
#include <memory_resource>
#include <mutex>
#include <set>
#include <unordered_map>

#include "core/address_range.h"
#include "core/device_backend.h"
#include "core/error.h"

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

[[noreturn]] void fail_not_live(const void* pointer, std::int64_t bytes) {
  throw InternalError(
      concat("freed ", bytes, " bytes at ", pointer, ", which are not a live block"));
}

constexpr std::int64_t kGuardBytes = std::int64_t{64} << 10;

std::int64_t round_up(std::int64_t bytes, std::int64_t alignment) {
  return (bytes + alignment - 1) & ~(alignment - 1);
}

// Bytes in use and their peak, for both allocators. The owner serializes the calls that change
// them.
class Usage {
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

// A part of the range below its high-water mark; the blocks tile it without gaps, in address order.
struct Block {
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
  Block* previous = nullptr;
  Block* next = nullptr;
  bool is_free = false;
};

struct SmallestFirst {
  bool operator()(const Block* a, const Block* b) const noexcept {
    return a->bytes != b->bytes ? a->bytes < b->bytes : a->offset < b->offset;
  }
};

// Best fit, lowest address among equals. Book-keeping lies outside the blocks, in nodes that are
// used again.
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
      Block* block = take_best_fit(rounded);
      if (block == nullptr) {
        block = extend(rounded);
      }
      live_.emplace(block->offset, block);
      usage_.add(rounded);
      pointer = range_->base() + block->offset;
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
    const auto found = live_.find(static_cast<std::byte*>(pointer) - range_->base());
    if (found == live_.end() || found->second->bytes != rounded) {
      fail_not_live(pointer, bytes);  // ends the program, with its message
    }
    Block* block = found->second;
    live_.erase(found);
    usage_.subtract(rounded);
    free_.insert(merge_with_free_neighbours(block));
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
  Block* take_best_fit(std::int64_t bytes) {
    Block wanted;
    wanted.bytes = bytes;
    const auto found = free_.lower_bound(&wanted);
    if (found == free_.end()) {
      return nullptr;
    }
    Block* block = *found;
    free_.erase(found);
    block->is_free = false;
    if (block->bytes > bytes) {
      Block* rest = new_block(block->offset + bytes, block->bytes - bytes);
      rest->is_free = true;
      link(block, rest, block->next);
      block->bytes = bytes;
      free_.insert(rest);
    }
    return block;
  }

  // A block at the end, which takes in a last block that is free.
  Block* extend(std::int64_t bytes) {
    const bool last_is_free = last_ != nullptr && last_->is_free;
    const std::int64_t offset = last_is_free ? last_->offset : high_water_.load();
    if (bytes > range_->bytes() - offset) {
      throw DeviceError(concat("out of memory: ", bytes, " bytes asked for, ", usage_.in_use(),
                               " in use, ", high_water_.load(), " reserved of an address range of ",
                               range_->bytes()));
    }
    range_->commit(offset + bytes);
    Block* block = last_;
    if (last_is_free) {
      free_.erase(last_);
      block->is_free = false;
      block->bytes = bytes;
    } else {
      block = new_block(offset, bytes);
      link(last_, block, nullptr);
    }
    high_water_.store(offset + bytes, std::memory_order_relaxed);
    if (range_->is_host_memory()) {
      forbid_access(range_->base() + offset, bytes + guard_bytes());
    }
    return block;
  }

  // What lies behind the last block is forbidden this far: forbidding the whole range would touch
  // its shadow.
  std::int64_t guard_bytes() const noexcept {
    return std::min(kGuardBytes, range_->bytes() - high_water_);
  }

  Block* merge_with_free_neighbours(Block* block) {
    if (Block* next = block->next; next != nullptr && next->is_free) {
      free_.erase(next);
      absorb_next(block);
    }
    if (Block* previous = block->previous; previous != nullptr && previous->is_free) {
      free_.erase(previous);
      absorb_next(previous);
      block = previous;
    }
    block->is_free = true;
    return block;
  }

  void absorb_next(Block* block) {
    Block* gone = block->next;
    block->bytes += gone->bytes;
    block->next = gone->next;
    (gone->next != nullptr ? gone->next->previous : last_) = block;
    gone->next = spare_;
    spare_ = gone;
  }

  void link(Block* previous, Block* block, Block* next) {
    block->previous = previous;
    block->next = next;
    if (previous != nullptr) {
      previous->next = block;
    }
    (next != nullptr ? next->previous : last_) = block;
  }

  Block* new_block(std::int64_t offset, std::int64_t bytes) {
    Block* block = spare_;
    if (block != nullptr) {
      spare_ = block->next;
    } else {
      block = &blocks_.emplace_back();
    }
    *block = Block{};
    block->offset = offset;
    block->bytes = bytes;
    return block;
  }

  std::unique_ptr<AddressRange> range_;
  mutable std::mutex mutex_;
  Usage usage_;
  std::atomic<std::int64_t> high_water_{0};
  std::pmr::unsynchronized_pool_resource nodes_;
  std::pmr::set<Block*, SmallestFirst> free_{&nodes_};
  std::pmr::unordered_map<std::int64_t, Block*> live_{&nodes_};  // by offset
  std::deque<Block> blocks_;
  Block* last_ = nullptr;
  Block* spare_ = nullptr;  // unused Blocks, a list through `next`
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
  Usage usage_;
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
