#include "trainer/generation/page_pool.h"

#include "core/error.h"

namespace fathom::trainer {

PagePool::PagePool(std::int64_t num_pages) : pages_(static_cast<std::size_t>(num_pages)) {
  for (std::int32_t page = 0; page < num_pages; ++page) {
    free_.emplace(0, page);
  }
}

std::optional<std::int32_t> PagePool::take() {
  if (free_.empty()) {
    return std::nullopt;
  }
  const std::int32_t id = free_.begin()->second;
  free_.erase(free_.begin());
  Page& page = pages_[static_cast<std::size_t>(id)];
  for (const Key& key : page.keys) {
    entries_.erase(key);
  }
  page.keys.clear();
  page.num_holders = 1;
  return id;
}

void PagePool::hold(std::int32_t id) {
  Page& page = pages_[static_cast<std::size_t>(id)];
  if (page.num_holders++ == 0) {
    free_.erase({page.returned, id});
  }
}

void PagePool::give_back(std::int32_t id) {
  Page& page = pages_[static_cast<std::size_t>(id)];
  FATHOM_CHECK(page.num_holders > 0, "page ", id, " is nobody's");
  if (--page.num_holders == 0) {
    page.returned = ++num_returns_;
    free_.emplace(page.returned, id);
  }
}

std::optional<PagePool::Match> PagePool::find(Prefix prefix,
                                              std::span<const std::int32_t> tokens) const {
  const auto found = entries_.find(Key{prefix, {tokens.begin(), tokens.end()}});
  return found == entries_.end() ? std::nullopt : std::optional(found->second);
}

PagePool::Prefix PagePool::enter(Prefix prefix, std::span<const std::int32_t> tokens,
                                 std::int32_t page) {
  Key key{prefix, {tokens.begin(), tokens.end()}};
  const auto [entry, is_new] = entries_.try_emplace(key, Match{page, num_prefixes_ + 1});
  if (is_new) {
    ++num_prefixes_;
    pages_[static_cast<std::size_t>(page)].keys.push_back(std::move(key));
  }
  return entry->second.prefix;
}

}  // namespace fathom::trainer
