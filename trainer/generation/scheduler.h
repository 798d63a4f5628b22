#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trainer/generation/sequence.h"

namespace fathom::trainer {

// Tokens [first, first + count) of a sequence, prompt and completion in a row, that a step takes
// through the model; all before them are in the cache.
struct Feed {
  std::size_t sequence = 0;  // index of the prompt
  std::int64_t place = 0;    // in the cache of its data rank
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool is_whole = false;  // nothing is left to feed: the logits of the last token give the next
};

// Which sequences are at work, where, and what each step feeds: a pure function of the prompts, the
// options and the tokens drawn so far, alike on all ranks. Waiting prompts enter in their order as
// soon as another sequence leaves (continuous batching; Orca, OSDI'22). Long prompts are fed over
// several steps, beside the sequences that are further on.
class Scheduler {
 public:
  // `num_data_ranks` each work on options.max_sequences at a time. The prompts outlive the
  // scheduler.
  Scheduler(std::span<const Prompt> prompts, const GenerationOptions& options,
            std::int64_t max_position, int num_data_ranks);

  bool is_done() const noexcept { return num_waiting_ == 0 && num_running_ == 0; }
  std::int64_t num_places() const noexcept { return num_places_; }  // on each data rank
  // Most tokens that a place keeps.
  std::int64_t place_size() const noexcept { return place_size_; }

  // What each data rank feeds in the next step. Every feed that is_whole must get a token before
  // the step after it.
  std::vector<std::vector<Feed>> next_step();
  void add_token(const Feed& feed, std::int32_t token, float logprob);

  std::int32_t token(std::size_t sequence, std::int64_t index) const;
  std::int64_t num_tokens(std::size_t sequence) const;
  // So far, of all prompts.
  const std::vector<Completion>& completions() const { return completions_; }
  // Whether its completion has ended.
  bool is_finished(std::size_t sequence) const { return states_[sequence] == State::kFinished; }
  std::vector<Completion> take_completions() { return std::move(completions_); }

 private:
  enum class State { kWaiting, kRunning, kFinished };
  static constexpr std::size_t kNobody = static_cast<std::size_t>(-1);

  std::optional<FinishReason> finish_of(std::size_t sequence) const;
  void admit();
  void feed(std::span<const std::size_t> places, bool is_long, std::int64_t& budget,
            std::vector<Feed>& feeds);

  std::span<const Prompt> prompts_;
  GenerationOptions options_;
  std::int64_t max_position_;
  std::vector<Completion> completions_;
  std::vector<State> states_;
  std::vector<std::int64_t> num_fed_;
  std::vector<std::vector<std::size_t>> places_;  // [data rank][place]: sequence or kNobody
  std::int64_t num_places_ = 0;
  std::int64_t place_size_ = 0;
  std::size_t next_ = 0;  // the first prompt that has not entered
  std::size_t num_waiting_ = 0;
  std::size_t num_running_ = 0;
};

}  // namespace fathom::trainer
