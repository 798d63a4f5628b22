#include "trainer/generation/scheduler.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/paged_attention.h"

namespace fathom::trainer {

std::int64_t num_cache_pages(const GenerationOptions& options, std::int64_t num_sequences,
                             std::int64_t longest) {
  return options.cache_tokens == 0 ? num_sequences * PageTable::pages_for(longest)
                                   : options.cache_tokens / kernels::kPageTokens;
}

Scheduler::Scheduler(std::span<const Prompt> prompts, const GenerationOptions& options,
                     std::int64_t max_position, int num_data_ranks)
    : prompts_(prompts),
      options_(options),
      max_position_(max_position),
      completions_(prompts.size()),
      tokens_(prompts.size()),
      is_finished_(prompts.size(), false),
      tables_(prompts.size()) {
  FATHOM_CHECK(options.max_sequences >= 1 && options.max_step_tokens >= 1, options.max_sequences,
               " sequences and ", options.max_step_tokens, " tokens at a time");
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const Prompt& prompt = prompts[i];
    FATHOM_CHECK(!prompt.tokens.empty(), "prompt ", prompt.id, " has no token");
    FATHOM_CHECK(prompt.begun.tokens.size() == prompt.begun.logprobs.size(), "prompt ", prompt.id,
                 " has ", prompt.begun.tokens.size(), " tokens begun and ",
                 prompt.begun.logprobs.size(), " log-probabilities");
    completions_[i] = prompt.begun;
    tokens_[i] = prompt.tokens;
    tokens_[i].insert(tokens_[i].end(), prompt.begun.tokens.begin(), prompt.begun.tokens.end());
    if (const auto finish = finish_of(i)) {
      completions_[i].finish = *finish;
      is_finished_[i] = true;
      continue;
    }
    waiting_.push_back(i);
    // The last token of a completion is not fed any more: it needs no position.
    longest = std::max(
        longest, std::min(std::ssize(prompt.tokens) + options.max_new_tokens - 1, max_position));
  }
  max_running_ =
      std::min(options.max_sequences, (std::ssize(waiting_) + num_data_ranks - 1) / num_data_ranks);
  size_cache(longest);
  ranks_.assign(static_cast<std::size_t>(num_data_ranks), {PagePool(num_pages_), {}, {}});
}

void Scheduler::size_cache(std::int64_t longest) {
  const std::int64_t least = PageTable::pages_for(longest);
  num_pages_ = num_cache_pages(options_, max_running_, longest);
  if (num_pages_ < least) {
    throw ConfigError(concat("a key/value cache of ", options_.cache_tokens, " tokens is ",
                             num_pages_, " pages of ", kernels::kPageTokens,
                             ", and the longest sequence that there can be, of ", longest,
                             " tokens, takes ", least, "; make it at least ",
                             least * kernels::kPageTokens, " tokens, or ask for fewer new tokens"));
  }
}

// Why its completion is at its end, if it is.
std::optional<FinishReason> Scheduler::finish_of(std::size_t sequence) const {
  const std::vector<std::int32_t>& drawn = completions_[sequence].tokens;
  if (!drawn.empty() && (std::ranges::count(options_.end_tokens, drawn.back()) > 0 ||
                         (options_.is_stop && options_.is_stop(drawn)))) {
    return FinishReason::kStop;
  }
  if (std::ssize(drawn) >= options_.max_new_tokens ||
      std::ssize(tokens_[sequence]) > max_position_) {
    return FinishReason::kLength;
  }
  return std::nullopt;
}

CachedTokens Scheduler::cached_tokens(std::size_t sequence) const {
  return {tokens_[sequence], std::ssize(prompts_[sequence].tokens)};
}

// Each goes to a data rank that works on the same prompt, else to the one with the fewest.
void Scheduler::admit() {
  while (!waiting_.empty()) {
    const std::size_t sequence = waiting_.front();
    DataRank* best = nullptr;
    bool shares = false;
    for (DataRank& rank : ranks_) {
      if (std::ssize(rank.running) == max_running_ || !has_room(rank, sequence)) {
        continue;
      }
      const bool is_same = has_same_prompt(rank, sequence);
      if (best == nullptr || is_same > shares ||
          (is_same == shares && rank.running.size() < best->running.size())) {
        best = &rank;
        shares = is_same;
      }
    }
    if (best == nullptr) {
      return;
    }
    waiting_.pop_front();
    best->running.push_back(sequence);
    tables_[sequence] = PageTable(best->pool);
    ++num_running_;
  }
}

// For its tokens so far, beside those of the others. Alone it always has.
bool Scheduler::has_room(const DataRank& rank, std::size_t sequence) const {
  if (rank.running.empty()) {
    return true;
  }
  std::int64_t num_free = rank.pool.num_free();
  for (const std::size_t other : rank.running) {
    num_free -=
        PageTable::pages_for(std::ssize(tokens_[other])) - std::ssize(tables_[other].pages());
  }
  std::int64_t num_needed = PageTable::pages_for(std::ssize(tokens_[sequence]));
  for (const std::int32_t page : PageTable::find(cached_tokens(sequence), rank.pool).pages) {
    num_needed -= rank.pool.is_held(page) ? 1 : 0;
  }
  return num_needed <= num_free;
}

bool Scheduler::has_same_prompt(const DataRank& rank, std::size_t sequence) const {
  return std::any_of(rank.running.begin(), rank.running.end(), [&](std::size_t other) {
    return prompts_[other].tokens == prompts_[sequence].tokens;
  });
}

// Room for the next token of each that runs, unless it waits for the pages of another.
void Scheduler::make_room(DataRank& rank) {
  for (std::size_t i = 0; i < rank.running.size(); ++i) {
    const std::size_t sequence = rank.running[i];
    PageTable& table = tables_[sequence];
    if (table.num_cached() == 0 && table.pages().empty()) {
      const auto found = PageTable::find(cached_tokens(sequence), rank.pool);
      if (waits_for_prefix(rank, sequence, found.num_tokens)) {
        continue;
      }
      table.attach(found);
    }
    if (!take_room(rank, sequence)) {
      return;
    }
  }
}

// For the next token, from those that entered after it where no page is free. False when it was the
// last itself and had to go.
bool Scheduler::take_room(DataRank& rank, std::size_t sequence) {
  PageTable& table = tables_[sequence];
  while (!table.make_room(1)) {
    if (table.copy_source()) {
      table.forgo_copy();
      continue;
    }
    const bool is_last = rank.running.back() == sequence;
    preempt_last(rank);
    if (is_last) {
      return false;
    }
  }
  return true;
}

// Whether a sequence that entered before will have kept more of its tokens than are found.
bool Scheduler::waits_for_prefix(const DataRank& rank, std::size_t sequence,
                                 std::int64_t num_found) const {
  constexpr std::int64_t kWorthwhile = 16;  // fewer tokens are fed again rather than waited for
  const std::span<const std::int32_t> tokens = tokens_[sequence];
  const std::int64_t prompt_size = std::ssize(prompts_[sequence].tokens);
  for (const std::size_t other : rank.running) {
    if (other == sequence) {
      return false;
    }
    const auto [end, end_of_other] = std::ranges::mismatch(tokens, tokens_[other]);
    const std::int64_t common = std::min(end - tokens.begin(), std::ssize(tokens) - 1);
    std::int64_t shared = common / kernels::kPageTokens * kernels::kPageTokens;
    if (prompt_size == std::ssize(prompts_[other].tokens) && common >= prompt_size - 1) {
      shared = std::max(shared, prompt_size - 1);
    }
    if (shared >= num_found + kWorthwhile && tables_[other].num_cached() < shared) {
      return true;
    }
  }
  return false;
}

void Scheduler::preempt_last(DataRank& rank) {
  const std::size_t sequence = rank.running.back();
  rank.running.pop_back();
  tables_[sequence].give_back();
  waiting_.push_front(sequence);
  --num_running_;
  ++num_preemptions_;
}

// What the sequences of a data rank have left to feed, of those with one token or of those with
// more.
void Scheduler::feed(DataRank& rank, bool is_long, std::int64_t& budget, std::vector<Feed>& feeds) {
  for (const std::size_t sequence : rank.running) {
    PageTable& table = tables_[sequence];
    const std::int64_t left = std::ssize(tokens_[sequence]) - table.num_cached();
    if ((left > 1) != is_long || table.room() == 0) {
      continue;
    }
    std::int64_t count = std::min(left, budget);
    table.make_room(count);
    count = std::min(count, table.room());
    if (count == 0) {
      continue;
    }
    feeds.push_back({sequence, table.num_cached(), count, count == left, table.copy_source()});
    if (const auto copied = table.feed(count, cached_tokens(sequence))) {
      rank.copied.push_back(*copied);
    }
    budget -= count;
  }
}

std::vector<std::vector<Feed>> Scheduler::next_step() {
  for (DataRank& rank : ranks_) {
    for (const std::int32_t page : rank.copied) {
      rank.pool.give_back(page);
    }
    rank.copied.clear();
  }
  admit();
  std::vector<std::vector<Feed>> step(ranks_.size());
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    make_room(ranks_[i]);
    std::int64_t budget = options_.max_step_tokens;
    // Those that need one token only go first: long prompts get what is left. One that has been fed
    // in the first pass has nothing left for the second.
    feed(ranks_[i], false, budget, step[i]);
    feed(ranks_[i], true, budget, step[i]);
  }
  return step;
}

void Scheduler::add_token(const Feed& feed, std::int32_t token, float logprob) {
  const std::size_t sequence = feed.sequence;
  FATHOM_CHECK(feed.is_whole && !is_finished_[sequence] &&
                   feed.first + feed.count == std::ssize(tokens_[sequence]),
               "sequence ", sequence, " waits for no token");
  Completion& completion = completions_[sequence];
  completion.tokens.push_back(token);
  completion.logprobs.push_back(logprob);
  tokens_[sequence].push_back(token);
  const std::optional<FinishReason> finish = finish_of(sequence);
  if (!finish) {
    return;
  }
  completion.finish = *finish;
  is_finished_[sequence] = true;
  --num_running_;
  tables_[sequence].give_back();
  for (DataRank& rank : ranks_) {
    std::erase(rank.running, sequence);
  }
}

}  // namespace fathom::trainer
