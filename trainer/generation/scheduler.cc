#include "trainer/generation/scheduler.h"

#include <algorithm>

#include "core/error.h"

namespace fathom::trainer {

Scheduler::Scheduler(std::span<const Prompt> prompts, const GenerationOptions& options,
                     std::int64_t max_position, int num_data_ranks)
    : prompts_(prompts),
      options_(options),
      max_position_(max_position),
      completions_(prompts.size()),
      states_(prompts.size(), State::kWaiting),
      num_fed_(prompts.size(), 0) {
  FATHOM_CHECK(options.max_sequences >= 1 && options.max_step_tokens >= 1, options.max_sequences,
               " sequences and ", options.max_step_tokens, " tokens at a time");
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto length = std::ssize(prompts[i].tokens);
    FATHOM_CHECK(length >= 1, "prompt ", prompts[i].id, " has no token");
    completions_[i] = prompts[i].begun;
    FATHOM_CHECK(completions_[i].tokens.size() == completions_[i].logprobs.size(), "prompt ",
                 prompts[i].id, " has ", completions_[i].tokens.size(), " tokens begun and ",
                 completions_[i].logprobs.size(), " log-probabilities");
    if (const auto finish = finish_of(i)) {
      completions_[i].finish = *finish;
      states_[i] = State::kFinished;
      continue;
    }
    ++num_waiting_;
    // The last token of a completion is not fed any more.
    place_size_ =
        std::max(place_size_, std::min(length + options.max_new_tokens, max_position) - 1);
  }
  num_places_ =
      std::min(options.max_sequences,
               (static_cast<std::int64_t>(num_waiting_) + num_data_ranks - 1) / num_data_ranks);
  places_.assign(static_cast<std::size_t>(num_data_ranks),
                 std::vector<std::size_t>(static_cast<std::size_t>(num_places_), kNobody));
}

// Why its completion is at its end, if it is.
std::optional<FinishReason> Scheduler::finish_of(std::size_t sequence) const {
  const std::vector<std::int32_t>& tokens = completions_[sequence].tokens;
  if (!tokens.empty() &&
      (tokens.back() == options_.eos || (options_.is_stop && options_.is_stop(tokens)))) {
    return FinishReason::kStop;
  }
  if (std::ssize(tokens) >= options_.max_new_tokens || num_tokens(sequence) >= max_position_) {
    return FinishReason::kLength;
  }
  return std::nullopt;
}

std::int32_t Scheduler::token(std::size_t sequence, std::int64_t index) const {
  const std::vector<std::int32_t>& prompt = prompts_[sequence].tokens;
  const auto at = static_cast<std::size_t>(index);
  return at < prompt.size() ? prompt[at] : completions_[sequence].tokens[at - prompt.size()];
}

std::int64_t Scheduler::num_tokens(std::size_t sequence) const {
  return std::ssize(prompts_[sequence].tokens) + std::ssize(completions_[sequence].tokens);
}

// Each waiting sequence goes to the first free place of the data rank that has most of them.
void Scheduler::admit() {
  const auto num_free = [](const std::vector<std::size_t>& places) {
    return std::count(places.begin(), places.end(), kNobody);
  };
  while (num_waiting_ > 0) {
    if (states_[next_] != State::kWaiting) {
      ++next_;
      continue;
    }
    auto& places =
        *std::max_element(places_.begin(), places_.end(),
                          [&](const auto& a, const auto& b) { return num_free(a) < num_free(b); });
    const auto place = std::find(places.begin(), places.end(), kNobody);
    if (place == places.end()) {
      return;
    }
    *place = next_;
    states_[next_++] = State::kRunning;
    --num_waiting_;
    ++num_running_;
  }
}

// What the places of a data rank have left to feed, of those with one token or of those with more.
void Scheduler::feed(std::span<const std::size_t> places, bool is_long, std::int64_t& budget,
                     std::vector<Feed>& feeds) {
  for (std::size_t place = 0; place < places.size(); ++place) {
    const std::size_t sequence = places[place];
    const std::int64_t left = sequence == kNobody ? 0 : num_tokens(sequence) - num_fed_[sequence];
    const std::int64_t count = std::min(left, budget);
    if (count == 0 || (left > 1) != is_long) {
      continue;
    }
    feeds.push_back(
        {sequence, static_cast<std::int64_t>(place), num_fed_[sequence], count, count == left});
    num_fed_[sequence] += count;
    budget -= count;
  }
}

std::vector<std::vector<Feed>> Scheduler::next_step() {
  admit();
  std::vector<std::vector<Feed>> step(places_.size());
  for (std::size_t rank = 0; rank < places_.size(); ++rank) {
    std::int64_t budget = options_.max_step_tokens;
    // Those that need one token only go first: long prompts get what is left. One that has been fed
    // in the first pass has nothing left for the second.
    feed(places_[rank], false, budget, step[rank]);
    feed(places_[rank], true, budget, step[rank]);
  }
  return step;
}

void Scheduler::add_token(const Feed& feed, std::int32_t token, float logprob) {
  FATHOM_CHECK(feed.is_whole && states_[feed.sequence] == State::kRunning, "sequence ",
               feed.sequence, " waits for no token");
  Completion& completion = completions_[feed.sequence];
  completion.tokens.push_back(token);
  completion.logprobs.push_back(logprob);
  const std::optional<FinishReason> finish = finish_of(feed.sequence);
  if (!finish) {
    return;
  }
  completion.finish = *finish;
  states_[feed.sequence] = State::kFinished;
  --num_running_;
  for (std::vector<std::size_t>& places : places_) {
    std::replace(places.begin(), places.end(), feed.sequence, kNobody);
  }
}

}  // namespace fathom::trainer
