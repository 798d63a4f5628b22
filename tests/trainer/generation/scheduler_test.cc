#include "trainer/generation/scheduler.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/catch.h"

namespace fathom::trainer {
namespace {

std::vector<Prompt> prompts_of(const std::vector<std::size_t>& lengths) {
  std::vector<Prompt> prompts;
  for (const std::size_t length : lengths) {
    prompts.push_back({concat(prompts.size()), 0, std::vector<std::int32_t>(length, 3)});
  }
  return prompts;
}

// Runs to the end with `token` for every feed; the feeds of each step and data rank.
std::vector<std::vector<std::vector<Feed>>> run(Scheduler& scheduler, std::int32_t token = 5) {
  std::vector<std::vector<std::vector<Feed>>> steps;
  while (!scheduler.is_done()) {
    steps.push_back(scheduler.next_step());
    for (const auto& feeds : steps.back()) {
      for (const Feed& feed : feeds) {
        if (feed.is_whole) {
          scheduler.add_token(feed, token, -1.0F);
        }
      }
    }
  }
  return steps;
}

// Prompts of one token repeated, a token for each prompt.
std::vector<Prompt> different_prompts_of(const std::vector<std::size_t>& lengths) {
  auto prompts = prompts_of(lengths);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::ranges::fill(prompts[i].tokens, static_cast<std::int32_t>(10 + i));
  }
  return prompts;
}

TEST_CASE("Every token but a completion's last is fed once and in order") {
  const auto prompts = different_prompts_of({3, 40, 1, 9, 17, 2, 2});
  GenerationOptions options;
  options.max_new_tokens = 6;
  options.max_sequences = 2;
  options.max_step_tokens = 7;
  Scheduler scheduler(prompts, options, 100, 2);
  CHECK(scheduler.num_pages() == 2);
  std::vector<std::int64_t> num_fed(prompts.size(), 0);
  std::vector<std::set<std::size_t>> data_ranks(prompts.size());
  for (const auto& step : run(scheduler)) {
    for (std::size_t rank = 0; rank < step.size(); ++rank) {
      std::int64_t num_tokens = 0;
      REQUIRE(step[rank].size() <= 2);
      for (const Feed& feed : step[rank]) {
        REQUIRE(feed.first == num_fed[feed.sequence]);
        num_fed[feed.sequence] += feed.count;
        num_tokens += feed.count;
        data_ranks[feed.sequence].insert(rank);
      }
      REQUIRE(num_tokens <= 7);
    }
  }
  CHECK(scheduler.num_preemptions() == 0);
  const std::vector<Completion> completions = scheduler.take_completions();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    CHECK(num_fed[i] == std::ssize(prompts[i].tokens) + 5);
    CHECK(data_ranks[i].size() == 1);
    CHECK(completions[i].tokens.size() == 6);
    CHECK(completions[i].finish == FinishReason::kLength);
  }
}

// What a cache would hold if each page held tokens in place of keys: every token that a feed's
// queries see is where its page table says, and nobody else has written there.
class TokenCache {
 public:
  explicit TokenCache(const Scheduler& scheduler, int num_data_ranks)
      : scheduler_(scheduler),
        slots_(static_cast<std::size_t>(num_data_ranks),
               std::vector<std::int32_t>(static_cast<std::size_t>(scheduler.num_pages()) * 64)) {}

  // Returns the number of tokens fed.
  std::int64_t take(const std::vector<std::vector<Feed>>& step) {
    std::int64_t num_fed = 0;
    for (std::size_t rank = 0; rank < step.size(); ++rank) {
      // Micro-batches may come in any order.
      std::vector<Feed> feeds = step[rank];
      if (std::ssize(feeds) % 2 == 0) {
        std::ranges::reverse(feeds);
      }
      for (const Feed& feed : feeds) {
        copy(feed, slots_[rank]);
        for (std::int64_t i = feed.first; i < feed.first + feed.count; ++i) {
          slots_[rank][slot(feed, i)] = token(feed, i);
        }
        num_fed += feed.count;
      }
      for (const Feed& feed : step[rank]) {
        for (std::int64_t i = 0; i < feed.first + feed.count; ++i) {
          FATHOM_CHECK(slots_[rank][slot(feed, i)] == token(feed, i), "sequence ", feed.sequence,
                       ", token ", i);
        }
      }
    }
    return num_fed;
  }

 private:
  std::int32_t token(const Feed& feed, std::int64_t index) const {
    return scheduler_.tokens(feed.sequence)[static_cast<std::size_t>(index)];
  }
  std::size_t slot(const Feed& feed, std::int64_t index) const {
    return static_cast<std::size_t>(
        scheduler_.pages(feed.sequence)[static_cast<std::size_t>(index / 64)] * 64 + index % 64);
  }
  void copy(const Feed& feed, std::vector<std::int32_t>& slots) const {
    if (feed.copied_page) {
      std::copy_n(slots.begin() + *feed.copied_page * 64, 64,
                  slots.begin() + static_cast<std::ptrdiff_t>(slot(feed, feed.first / 64 * 64)));
    }
  }

  const Scheduler& scheduler_;
  std::vector<std::vector<std::int32_t>> slots_;  // of each data rank
};

// Tokens fed until all completions, of tokens that depend on the prompt's and the position, are
// there.
std::int64_t run_with_cache(Scheduler& scheduler, int num_data_ranks) {
  TokenCache cache(scheduler, num_data_ranks);
  std::int64_t num_fed = 0;
  while (!scheduler.is_done()) {
    const auto step = scheduler.next_step();
    num_fed += cache.take(step);
    FATHOM_CHECK(std::any_of(step.begin(), step.end(), [](const auto& x) { return !x.empty(); }),
                 "a step that feeds nothing");
    for (const auto& feeds : step) {
      for (const Feed& feed : feeds) {
        if (feed.is_whole) {
          const auto position = static_cast<std::int32_t>(feed.first + feed.count);
          scheduler.add_token(feed, 100 + static_cast<std::int32_t>(feed.sequence) + position,
                              -1.0F);
        }
      }
    }
  }
  return num_fed;
}

TEST_CASE("Samples of one prompt feed it once, the others their last token only") {
  std::vector<Prompt> prompts(8, different_prompts_of({150})[0]);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    prompts[i].sample = static_cast<std::int64_t>(i);
  }
  GenerationOptions options;
  options.max_new_tokens = 4;
  Scheduler scheduler(prompts, options, 1000, 1);
  CHECK(run_with_cache(scheduler, 1) == 150 + 7 + 8 * 3);
  // Also when they come one after the other.
  options.max_sequences = 1;
  options.cache_tokens = 4 * 64;
  Scheduler one_by_one(prompts, options, 1000, 1);
  CHECK(run_with_cache(one_by_one, 1) == 150 + 7 + 8 * 3);
}

TEST_CASE("Prompts share the whole pages that they begin with") {
  auto prompts = different_prompts_of({200, 180, 64});
  for (Prompt& prompt : prompts) {
    std::fill_n(prompt.tokens.begin(), std::min<std::size_t>(prompt.tokens.size(), 130), 5);
  }
  GenerationOptions options;
  options.max_new_tokens = 2;
  Scheduler scheduler(prompts, options, 1000, 1);
  // The third must feed its last token, and with it the page that it has part of alone.
  CHECK(run_with_cache(scheduler, 1) == 200 + (180 - 128) + 64 + 3);
}

TEST_CASE("With few pages the sequence that entered last is fed again, and all end") {
  const auto prompts = different_prompts_of({60, 60, 60});
  GenerationOptions options;
  options.max_new_tokens = 70;
  options.cache_tokens = 5 * 64 + 63;
  Scheduler scheduler(prompts, options, 1000, 1);
  CHECK(scheduler.num_pages() == 5);
  run_with_cache(scheduler, 1);
  // The third where each takes a second page, the second where it takes its third.
  CHECK(scheduler.num_preemptions() == 2);
  for (const Completion& completion : scheduler.completions()) {
    CHECK(completion.tokens.size() == 70);
  }
}

TEST_CASE("A page that a step copies is not written to in that step") {
  auto prompts = different_prompts_of({100, 100, 100});
  prompts[1].tokens = prompts[0].tokens;
  GenerationOptions options;
  options.max_new_tokens = 1;
  options.max_sequences = 2;
  options.cache_tokens = 4 * 64;
  Scheduler scheduler(prompts, options, 1000, 1);
  CHECK(run_with_cache(scheduler, 1) == 100 + 1 + 100);
}

TEST_CASE("A cache too small for one sequence is refused with numbers") {
  const auto prompts = prompts_of({100, 20});
  GenerationOptions options;
  options.max_new_tokens = 30;
  options.cache_tokens = 191;
  std::string message;
  try {
    Scheduler(prompts, options, 1000, 1);
  } catch (const ConfigError& error) {
    message = error.message();
  }
  CHECK(message.find("191 tokens is 2 pages of 64") != std::string::npos);
  CHECK(message.find("of 129 tokens, takes 3; make it at least 192") != std::string::npos);
  options.cache_tokens = 192;
  Scheduler scheduler(prompts, options, 1000, 1);
  run_with_cache(scheduler, 1);
}

TEST_CASE("Random workloads: every key is where it is looked for, and every sequence ends") {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    INFO("workload " << seed);
    const RandomSource random(seed, "workload");
    std::uint64_t count = 0;
    const auto below = [&](std::uint64_t bound) {
      return static_cast<std::int64_t>(random.below(count++, bound));
    };
    std::vector<Prompt> prompts;
    for (std::int64_t i = 0, size = 1 + below(20); i < size; ++i) {
      Prompt prompt{concat(i), 0, {}};
      if (i > 0 && below(2) == 0) {  // begins like another
        const auto& other = prompts[static_cast<std::size_t>(below(static_cast<std::uint64_t>(i)))];
        prompt.tokens = other.tokens;
        if (below(2) == 0) {
          prompt.tokens.resize(static_cast<std::size_t>(1 + below(prompt.tokens.size())));
        }
      }
      for (std::int64_t j = prompt.tokens.empty() ? -1 : 0, more = below(2) * below(200); j < more;
           ++j) {
        prompt.tokens.push_back(static_cast<std::int32_t>(below(3)));
      }
      for (std::int64_t j = 0, begun = below(2) * below(90); j < begun; ++j) {
        const auto position =
            static_cast<std::int32_t>(prompt.tokens.size()) + static_cast<std::int32_t>(j);
        prompt.begun.tokens.push_back(100 + static_cast<std::int32_t>(i) + position);
        prompt.begun.logprobs.push_back(-1.0F);
      }
      prompts.push_back(prompt);
    }
    GenerationOptions options;
    options.max_new_tokens = 1 + below(100);
    options.max_sequences = 1 + below(6);
    options.max_step_tokens = 1 + below(2) * below(100) + below(8);
    const int num_data_ranks = 1 + static_cast<int>(below(2));
    std::int64_t longest = 1;
    for (const Prompt& prompt : prompts) {
      longest = std::max(longest, std::min<std::int64_t>(
                                      std::ssize(prompt.tokens) + options.max_new_tokens - 1, 250));
    }
    options.cache_tokens = below(3) == 0 ? 0 : ((longest + 63) / 64 + below(4)) * 64;
    Scheduler scheduler(prompts, options, 250, num_data_ranks);
    run_with_cache(scheduler, num_data_ranks);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const auto length = std::ssize(prompts[i].tokens);
      const auto drawn = std::ssize(scheduler.completions()[i].tokens);
      REQUIRE(drawn == std::max(std::ssize(prompts[i].begun.tokens),
                                std::max<std::ptrdiff_t>(
                                    0, std::min(options.max_new_tokens, 251 - length))));
    }
  }
}

TEST_CASE("A sequence that ends leaves its place to one that waits") {
  const auto prompts = different_prompts_of({2, 2, 2});
  GenerationOptions options;
  options.max_sequences = 1;
  options.end_tokens = {5};
  Scheduler scheduler(prompts, options, 100, 1);
  CHECK(run(scheduler).size() == 3);
  CHECK(scheduler.completions()[2].finish == FinishReason::kStop);
  CHECK(scheduler.completions()[2].tokens == std::vector<std::int32_t>{5});
}

TEST_CASE("A completion ends where the model has no more positions") {
  const auto prompts = prompts_of({8, 10, 12});
  GenerationOptions options;
  options.max_new_tokens = 50;
  Scheduler scheduler(prompts, options, 10, 1);
  run(scheduler);
  // The last token is drawn from the last position and needs none itself.
  CHECK(scheduler.completions()[0].tokens.size() == 3);
  CHECK(scheduler.completions()[1].tokens.size() == 1);
  CHECK(scheduler.completions()[2].tokens.empty());
  CHECK(scheduler.is_finished(2));
}

TEST_CASE("A completion that is whole when it comes in is not continued") {
  auto prompts = prompts_of({2, 2, 2, 2});
  prompts[0].begun = {{4, 5}, {-1.0F, -1.0F}};         // the end of a sentence
  prompts[1].begun = {{4, 4, 4}, {0.0F, 0.0F, 0.0F}};  // as many as are asked for
  prompts[2].begun = {{8}, {-2.0F}};                   // a stop
  GenerationOptions options;
  options.end_tokens = {5};
  options.max_new_tokens = 3;
  options.is_stop = [](std::span<const std::int32_t> tokens) { return tokens.back() == 8; };
  Scheduler scheduler(prompts, options, 100, 1);
  CHECK(run(scheduler, 8).size() == 1);
  const std::vector<Completion>& completions = scheduler.completions();
  CHECK(completions[0].tokens == std::vector<std::int32_t>{4, 5});
  CHECK(completions[0].finish == FinishReason::kStop);
  CHECK(completions[1].tokens.size() == 3);
  CHECK(completions[1].finish == FinishReason::kLength);
  CHECK(completions[2].logprobs == std::vector<float>{-2.0F});
  CHECK(completions[2].finish == FinishReason::kStop);
  CHECK(completions[3].tokens == std::vector<std::int32_t>{8});
  CHECK(completions[3].finish == FinishReason::kStop);
}

}  // namespace
}  // namespace fathom::trainer
