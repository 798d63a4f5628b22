#include "core/pool_allocator.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "core/best_fit_blocks.h"
#include "core/error.h"
#include "core/memory_usage.h"
#include "core/round_up.h"

namespace fathom {
namespace {

constexpr std::int64_t kPieceBytes = std::int64_t{16} << 20;  // at least, of the parent's memory
constexpr std::int64_t kAlignment = 256;                      // no device asks for more

class PoolAllocator final : public Allocator {
 public:
  explicit PoolAllocator(std::shared_ptr<Allocator> parent) : parent_(std::move(parent)) {}
  ~PoolAllocator() override {
    for (const Piece& piece : pieces_) {
      parent_->free(piece.memory, piece.bytes);
    }
  }
  PoolAllocator(const PoolAllocator&) = delete;
  PoolAllocator& operator=(const PoolAllocator&) = delete;

  void* allocate(std::int64_t bytes) override {
    FATHOM_CHECK(bytes >= 0, bytes, " bytes");
    if (bytes == 0) {
      return nullptr;
    }
    const std::int64_t rounded = round_up(bytes, kAlignment);
    const std::lock_guard lock(mutex_);
    std::byte* pointer = blocks_.take(rounded);
    if (pointer == nullptr) {
      add_piece(std::max(rounded, kPieceBytes));
      pointer = blocks_.take(rounded);
    }
    usage_.add(rounded);
    return pointer;
  }
  void free(void* pointer, std::int64_t bytes) noexcept override {
    if (pointer == nullptr) {
      return;
    }
    const std::int64_t rounded = round_up(bytes, kAlignment);
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
    std::int64_t sum = 0;
    for (const Piece& piece : pieces_) {
      sum += piece.bytes;
    }
    return sum;
  }

 private:
  struct Piece {
    void* memory = nullptr;
    std::int64_t bytes = 0;
  };

  void add_piece(std::int64_t bytes) {
    pieces_.push_back({parent_->allocate(bytes), bytes});
    blocks_.add_apart(static_cast<std::byte*>(pieces_.back().memory), bytes);
  }

  std::shared_ptr<Allocator> parent_;
  mutable std::mutex mutex_;
  std::vector<Piece> pieces_;
  BestFitBlocks blocks_;
  MemoryUsage usage_;
};

}  // namespace

std::shared_ptr<Allocator> make_pool_allocator(std::shared_ptr<Allocator> parent) {
  return std::make_shared<PoolAllocator>(std::move(parent));
}

}  // namespace fathom
