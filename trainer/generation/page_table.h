#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trainer/generation/page_pool.h"

namespace fathom::trainer {

// A sequence as the cache sees it.
struct CachedTokens {
  std::span<const std::int32_t> tokens;  // all so far
  std::int64_t prompt_size = 0;          // those of them that other sequences may have as well
};

// The pages of one sequence that is at work, and how many of its tokens they hold.
class PageTable {
 public:
  // What a pool holds of the beginning of a sequence: whole pages, to be shared, and then maybe all
  // of its prompt but the last token, in a page to be copied.
  struct Found {
    std::vector<std::int32_t> pages;
    PagePool::Prefix prefix = 0;
    std::optional<std::int32_t> part;
    std::int64_t num_tokens = 0;
  };
  // Leaves at least the last token to feed.
  static Found find(const CachedTokens& sequence, const PagePool& pool);
  static std::int64_t pages_for(std::int64_t num_tokens);

  PageTable() = default;
  explicit PageTable(PagePool& pool) : pool_(&pool) {}

  const std::vector<std::int32_t>& pages() const noexcept { return pages_; }
  std::int64_t num_cached() const noexcept { return num_cached_; }
  std::int64_t room() const;  // for tokens after those
  // To be copied to the page of token num_cached(), before that is kept.
  std::optional<std::int32_t> copy_source() const noexcept { return copy_source_; }

  void attach(const Found& found);
  // Takes pages until there is room for `count` tokens; false when the pool has no more.
  bool make_room(std::int64_t count);
  // Feeds the tokens again that were to be copied.
  void forgo_copy();
  // The next `count` tokens are fed, the copy done -> the page copied from, which the caller gives
  // back once the step is over.
  std::optional<std::int32_t> feed(std::int64_t count, const CachedTokens& sequence);
  void give_back();

 private:
  PagePool* pool_ = nullptr;
  std::vector<std::int32_t> pages_;
  std::int64_t num_cached_ = 0;
  std::optional<std::int32_t> copy_source_;
  PagePool::Prefix prefix_ = 0;   // of the whole pages
  std::int64_t num_entered_ = 0;  // whole pages that the pool knows by their tokens
  bool has_entered_prompt_ = false;
};

}  // namespace fathom::trainer
