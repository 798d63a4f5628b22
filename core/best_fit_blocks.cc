#include "core/best_fit_blocks.h"

#include "core/error.h"

namespace fathom {

std::int64_t BestFitBlocks::free_at_end() const noexcept {
  return last_ != nullptr && last_->is_free ? last_->bytes : 0;
}

void BestFitBlocks::add(std::byte* begin, std::int64_t bytes, Block* previous) {
  Block* block = new_block(begin, bytes);
  last_ = block;
  link(previous, block, nullptr);
  free_.insert(merge_with_free_neighbours(block));
}

std::byte* BestFitBlocks::take(std::int64_t bytes) {
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
    Block* rest = new_block(block->begin + bytes, block->bytes - bytes);
    rest->is_free = true;
    link(block, rest, block->next);
    block->bytes = bytes;
    free_.insert(rest);
  }
  live_.emplace(block->begin, block);
  return block->begin;
}

void BestFitBlocks::give_back(std::byte* begin, std::int64_t bytes) {
  const auto found = live_.find(begin);
  if (found == live_.end() || found->second->bytes != bytes) {
    throw InternalError(concat("freed ", bytes, " bytes at ", static_cast<const void*>(begin),
                               ", which are not a live block"));
  }
  Block* block = found->second;
  live_.erase(found);
  free_.insert(merge_with_free_neighbours(block));
}

BestFitBlocks::Block* BestFitBlocks::merge_with_free_neighbours(Block* block) {
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

void BestFitBlocks::absorb_next(Block* block) {
  Block* gone = block->next;
  block->bytes += gone->bytes;
  block->next = gone->next;
  if (gone->next != nullptr) {
    gone->next->previous = block;
  } else if (last_ == gone) {
    last_ = block;
  }
  gone->next = spare_;
  spare_ = gone;
}

void BestFitBlocks::link(Block* previous, Block* block, Block* next) {
  block->previous = previous;
  block->next = next;
  if (previous != nullptr) {
    previous->next = block;
  }
  if (next != nullptr) {
    next->previous = block;
  } else if (last_ == previous) {
    last_ = block;
  }
}

BestFitBlocks::Block* BestFitBlocks::new_block(std::byte* begin, std::int64_t bytes) {
  Block* block = spare_;
  if (block != nullptr) {
    spare_ = block->next;
  } else {
    block = &blocks_.emplace_back();
  }
  *block = Block{};
  block->begin = begin;
  block->bytes = bytes;
  return block;
}

}  // namespace fathom
