#include "trainer/generation/page_table.h"

#include <utility>

#include "core/error.h"
#include "kernels/paged_attention.h"

namespace fathom::trainer {
namespace {

constexpr std::int64_t kPage = kernels::kPageTokens;

std::span<const std::int32_t> token_range(const CachedTokens& sequence, std::int64_t begin,
                                          std::int64_t end) {
  return sequence.tokens.subspan(static_cast<std::size_t>(begin),
                                 static_cast<std::size_t>(end - begin));
}

// Where the tokens of a prompt that samples of it need not feed end; they lie in its last page but
// for whole pages. The last token's logits are everybody's own business.
std::int64_t shared_end(const CachedTokens& sequence) { return sequence.prompt_size - 1; }

}  // namespace

std::int64_t PageTable::pages_for(std::int64_t num_tokens) {
  return (num_tokens + kPage - 1) / kPage;
}

PageTable::Found PageTable::find(const CachedTokens& sequence, const PagePool& pool) {
  Found found;
  const std::int64_t last = std::ssize(sequence.tokens) - 1;
  while (found.num_tokens + kPage <= last) {
    const auto match =
        pool.find(found.prefix, token_range(sequence, found.num_tokens, found.num_tokens + kPage));
    if (!match) {
      break;
    }
    found.pages.push_back(match->page);
    found.prefix = match->prefix;
    found.num_tokens += kPage;
  }
  const std::int64_t end = shared_end(sequence);
  if (end > found.num_tokens && end < found.num_tokens + kPage) {
    if (const auto match = pool.find(found.prefix, token_range(sequence, found.num_tokens, end))) {
      found.part = match->page;
      found.num_tokens = end;
    }
  }
  return found;
}

std::int64_t PageTable::room() const { return std::ssize(pages_) * kPage - num_cached_; }

void PageTable::attach(const Found& found) {
  FATHOM_CHECK(pages_.empty() && num_cached_ == 0, num_cached_, " tokens are there already");
  pages_ = found.pages;
  for (const std::int32_t page : pages_) {
    pool_->hold(page);
  }
  num_entered_ = std::ssize(pages_);
  prefix_ = found.prefix;
  num_cached_ = found.num_tokens;
  copy_source_ = found.part;
  if (copy_source_) {
    pool_->hold(*copy_source_);
  }
}

bool PageTable::make_room(std::int64_t count) {
  while (room() < count) {
    const std::optional<std::int32_t> page = pool_->take();
    if (!page) {
      return false;
    }
    pages_.push_back(*page);
  }
  return true;
}

void PageTable::forgo_copy() {
  pool_->give_back(*copy_source_);
  copy_source_.reset();
  num_cached_ = num_entered_ * kPage;
}

std::optional<std::int32_t> PageTable::feed(std::int64_t count, const CachedTokens& sequence) {
  num_cached_ += count;
  const std::int64_t end = shared_end(sequence);
  while (true) {
    const std::int64_t first = num_entered_ * kPage;
    const auto page = static_cast<std::size_t>(num_entered_);
    if (!has_entered_prompt_ && end > first && end < first + kPage && end <= num_cached_) {
      pool_->enter(prefix_, token_range(sequence, first, end), pages_[page]);
      has_entered_prompt_ = true;
    }
    if (first + kPage > num_cached_) {
      return std::exchange(copy_source_, std::nullopt);
    }
    prefix_ = pool_->enter(prefix_, token_range(sequence, first, first + kPage), pages_[page]);
    ++num_entered_;
  }
}

void PageTable::give_back() {
  if (copy_source_) {
    pool_->give_back(*copy_source_);
  }
  // The last first: a beginning is of use to more sequences than what follows.
  for (std::size_t i = pages_.size(); i-- > 0;) {
    pool_->give_back(pages_[i]);
  }
  *this = PageTable(*pool_);
}

}  // namespace fathom::trainer
