#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "trainer/generation/page_table.h"
#include "trainer/generation/sequence.h"

namespace fathom::trainer {

// Tokens [first, first + count) of a sequence, prompt and completion in a row, that a step takes
// through the model; all before them are in the cache.
struct Feed {
  std::size_t sequence = 0;  // index of the prompt
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool is_whole = false;  // nothing is left to feed: the logits of the last token give the next
  // To be copied to the page of token `first` before.
  std::optional<std::int32_t> copied_page = std::nullopt;
};

// Pages of a data rank's cache, for `num_sequences` at a time of up to `longest` tokens each.
std::int64_t num_cache_pages(const GenerationOptions& options, std::int64_t num_sequences,
                             std::int64_t longest);

// Which sequences are at work, where their keys and values are, and what each step feeds: a pure
// function of the prompts, the options and the tokens drawn so far, alike on all ranks.
//
// Waiting prompts enter in their order as soon as another sequence leaves (continuous batching;
// Orca, OSDI'22) and the cache has pages for what they begin with. Long prompts are fed over
// several steps, beside the sequences that are further on. A sequence that begins like one at work
// waits for it and then shares its pages. When the pages of a data rank run out, the sequence that
// entered last goes back to the head of the queue; what it has drawn stays.
class Scheduler {
 public:
  // `num_data_ranks` each work on options.max_sequences at a time. The prompts outlive the
  // scheduler. Throws ConfigError when options.cache_tokens are too few for the longest sequence
  // that there can be.
  Scheduler(std::span<const Prompt> prompts, const GenerationOptions& options,
            std::int64_t max_position, int num_data_ranks);

  bool is_done() const noexcept { return waiting_.empty() && num_running_ == 0; }
  std::int64_t num_pages() const noexcept { return num_pages_; }  // on each data rank
  std::int64_t num_preemptions() const noexcept { return num_preemptions_; }

  // What each data rank feeds in the next step. Every feed that is_whole must get a token before
  // the step after it.
  std::vector<std::vector<Feed>> next_step();
  void add_token(const Feed& feed, std::int32_t token, float logprob);

  // Prompt and completion so far.
  std::span<const std::int32_t> tokens(std::size_t sequence) const { return tokens_[sequence]; }
  // Of a sequence that is fed, in their order.
  std::span<const std::int32_t> pages(std::size_t sequence) const {
    return tables_[sequence].pages();
  }
  // So far, of all prompts.
  const std::vector<Completion>& completions() const { return completions_; }
  // Whether its completion has ended.
  bool is_finished(std::size_t sequence) const { return is_finished_[sequence]; }
  std::vector<Completion> take_completions() { return std::move(completions_); }

 private:
  struct DataRank {
    PagePool pool;
    std::vector<std::size_t> running;  // in the order in which they entered
    std::vector<std::int32_t> copied;  // held while a step copies them
  };

  std::optional<FinishReason> finish_of(std::size_t sequence) const;
  CachedTokens cached_tokens(std::size_t sequence) const;
  void size_cache(std::int64_t longest);

  void admit();
  bool has_room(const DataRank& rank, std::size_t sequence) const;
  bool has_same_prompt(const DataRank& rank, std::size_t sequence) const;
  void make_room(DataRank& rank);
  bool take_room(DataRank& rank, std::size_t sequence);
  bool waits_for_prefix(const DataRank& rank, std::size_t sequence, std::int64_t num_found) const;
  void preempt_last(DataRank& rank);
  void feed(DataRank& rank, bool is_long, std::int64_t& budget, std::vector<Feed>& feeds);

  std::span<const Prompt> prompts_;
  GenerationOptions options_;
  std::int64_t max_position_;
  std::vector<Completion> completions_;
  std::vector<std::vector<std::int32_t>> tokens_;
  std::vector<bool> is_finished_;
  std::vector<PageTable> tables_;  // of those that run
  std::deque<std::size_t> waiting_;
  std::vector<DataRank> ranks_;
  std::int64_t num_running_ = 0;
  std::int64_t max_running_ = 0;  // on each data rank
  std::int64_t num_pages_ = 0;
  std::int64_t num_preemptions_ = 0;
};

}  // namespace fathom::trainer
