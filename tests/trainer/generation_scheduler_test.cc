#include <set>

#include "core/error.h"
#include "tests/support/catch.h"
#include "trainer/generation/scheduler.h"

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

TEST_CASE("Every token but a completion's last is fed once, in order and to one place") {
  const auto prompts = prompts_of({3, 40, 1, 9, 17, 2, 2});
  GenerationOptions options;
  options.max_new_tokens = 6;
  options.max_sequences = 2;
  options.max_step_tokens = 7;
  Scheduler scheduler(prompts, options, 100, 2);
  CHECK(scheduler.num_places() == 2);
  CHECK(scheduler.place_size() == 45);
  std::vector<std::int64_t> num_fed(prompts.size(), 0);
  std::vector<std::set<std::pair<std::size_t, std::int64_t>>> places(prompts.size());
  for (const auto& step : run(scheduler)) {
    for (std::size_t rank = 0; rank < step.size(); ++rank) {
      std::int64_t num_tokens = 0;
      std::set<std::int64_t> used;
      for (const Feed& feed : step[rank]) {
        REQUIRE(feed.first == num_fed[feed.sequence]);
        num_fed[feed.sequence] += feed.count;
        num_tokens += feed.count;
        places[feed.sequence].emplace(rank, feed.place);
        REQUIRE(used.insert(feed.place).second);
      }
      REQUIRE(num_tokens <= 7);
    }
  }
  const std::vector<Completion> completions = scheduler.take_completions();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    CHECK(num_fed[i] == std::ssize(prompts[i].tokens) + 5);
    CHECK(places[i].size() == 1);
    CHECK(completions[i].tokens.size() == 6);
    CHECK(completions[i].finish == FinishReason::kLength);
  }
}

TEST_CASE("A sequence that ends leaves its place to one that waits") {
  const auto prompts = prompts_of({2, 2, 2});
  GenerationOptions options;
  options.max_sequences = 1;
  options.eos = 5;
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
  CHECK(scheduler.completions()[0].tokens.size() == 2);
  CHECK(scheduler.completions()[1].tokens.empty());
  CHECK(scheduler.completions()[2].tokens.empty());
  CHECK(scheduler.is_finished(2));
}

TEST_CASE("A completion that is whole when it comes in is not continued") {
  auto prompts = prompts_of({2, 2, 2, 2});
  prompts[0].begun = {{4, 5}, {-1.0F, -1.0F}};         // the end of a sentence
  prompts[1].begun = {{4, 4, 4}, {0.0F, 0.0F, 0.0F}};  // as many as are asked for
  prompts[2].begun = {{8}, {-2.0F}};                   // a stop
  GenerationOptions options;
  options.eos = 5;
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
