#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory_resource>
#include <set>
#include <unordered_map>

namespace fathom {

// Memory cut into blocks, free ones and live ones: best fit, lowest address among equals.
// Book-keeping lies outside the blocks, in nodes that are used again. Not thread-safe.
class BestFitBlocks {
 public:
  // Free memory: in one piece with what was added last, behind which it begins, or apart.
  void extend(std::byte* begin, std::int64_t bytes) { add(begin, bytes, last_); }
  void add_apart(std::byte* begin, std::int64_t bytes) { add(begin, bytes, nullptr); }
  // Of what was added last, free behind its last live block.
  std::int64_t free_at_end() const noexcept;

  // Null when no free block has so many bytes.
  std::byte* take(std::int64_t bytes);
  // `bytes`: as taken. Throws InternalError for what is not live.
  void give_back(std::byte* begin, std::int64_t bytes);

 private:
  // The blocks of a piece tile it without gaps, in address order.
  struct Block {
    std::byte* begin = nullptr;
    std::int64_t bytes = 0;
    Block* previous = nullptr;
    Block* next = nullptr;
    bool is_free = false;
  };
  struct SmallestFirst {
    bool operator()(const Block* a, const Block* b) const noexcept {
      return a->bytes != b->bytes ? a->bytes < b->bytes : a->begin < b->begin;
    }
  };

  void add(std::byte* begin, std::int64_t bytes, Block* previous);
  Block* merge_with_free_neighbours(Block* block);
  void absorb_next(Block* block);
  void link(Block* previous, Block* block, Block* next);
  Block* new_block(std::byte* begin, std::int64_t bytes);

  std::pmr::unsynchronized_pool_resource nodes_;
  std::pmr::set<Block*, SmallestFirst> free_{&nodes_};
  std::pmr::unordered_map<std::byte*, Block*> live_{&nodes_};  // by their beginning
  std::deque<Block> blocks_;
  Block* last_ = nullptr;   // of the piece that was added last
  Block* spare_ = nullptr;  // unused Blocks, a list through `next`
};

}  // namespace fathom
