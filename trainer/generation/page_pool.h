#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace fathom::trainer {

// Which sequences hold which pages of a key/value cache, and what tokens the pages hold, so that
// sequences that begin alike share them. A page that nobody holds any more keeps its tokens until
// it is needed for others; the one given back first goes first.
class PagePool {
 public:
  explicit PagePool(std::int64_t num_pages);

  std::int64_t num_free() const { return std::ssize(free_); }

  bool is_held(std::int32_t page) const {
    return pages_[static_cast<std::size_t>(page)].num_holders > 0;
  }

  // A page for new tokens, held once. None when no page is free.
  std::optional<std::int32_t> take();
  void hold(std::int32_t page);
  void give_back(std::int32_t page);

  // A run of tokens from the start of a sequence, by the pages that it fills; 0 is the empty one.
  using Prefix = std::int64_t;
  struct Match {
    std::int32_t page = 0;
    Prefix prefix = 0;  // with the tokens of the page
  };
  // The page that holds `tokens` behind `prefix` and is still intact.
  std::optional<Match> find(Prefix prefix, std::span<const std::int32_t> tokens) const;
  // Says that `page` begins with `tokens`, which come behind `prefix`.
  Prefix enter(Prefix prefix, std::span<const std::int32_t> tokens, std::int32_t page);

 private:
  // Never the number of a page: what is entered behind tokens that are gone is never found again.
  using Key = std::pair<Prefix, std::vector<std::int32_t>>;
  struct Page {
    int num_holders = 0;
    std::int64_t returned = 0;  // when it was given back
    std::vector<Key> keys;      // what it was entered under
  };

  std::vector<Page> pages_;
  std::set<std::pair<std::int64_t, std::int32_t>> free_;  // by the time that they were given back
  std::map<Key, Match> entries_;
  std::int64_t num_returns_ = 0;
  Prefix num_prefixes_ = 0;
};

}  // namespace fathom::trainer
