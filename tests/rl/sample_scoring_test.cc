#include "rl/sample_scoring.h"

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::rl {
namespace {

// What was seen while samples were scored.
struct Seen {
  std::mutex mutex;
  std::multiset<std::string> asked;                           // problem/completion
  std::set<std::pair<std::string, std::thread::id>> threads;  // of each problem
  std::atomic<int> num_inside = 0;
  std::atomic<int> most_inside = 0;
};

// The completion as a number; throws for problem "broken".
class TextReward final : public Reward {
 public:
  TextReward(Seen& seen, int num_at_once) : seen_(&seen), num_at_once_(num_at_once) {}
  RewardValue score(const RewardInput& input) const override {
    const int inside = ++seen_->num_inside;
    for (int most = seen_->most_inside;
         most < inside && !seen_->most_inside.compare_exchange_weak(most, inside);) {
    }
    {
      const std::lock_guard lock(seen_->mutex);
      seen_->asked.insert(input.problem->id + "/" + std::string(input.completion));
      seen_->threads.insert({input.problem->id, std::this_thread::get_id()});
    }
    if (num_at_once_ > 1) {  // until another is asked, too
      for (int i = 0; i < 500 && seen_->most_inside < 2; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    }
    --seen_->num_inside;
    if (input.problem->id == "broken") {
      throw IoError("no judge can be started");
    }
    return {.value = std::stod(std::string(input.completion)), .reason = input.problem->id};
  }
  int num_at_once() const override { return num_at_once_; }

 private:
  Seen* seen_;
  int num_at_once_;
};

struct Scored {
  std::vector<std::vector<Score>> of_rank;
  std::vector<int> num_told;  // by rank
};

// Two samples of each problem, whose owner is its place.
Scored score(const std::vector<Problem>& problems, int num_ranks, int num_at_once, Seen& seen) {
  std::vector<trainer::Completion> completions(2 * problems.size());
  std::vector<SampleToScore> samples;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    completions[i].tokens = {static_cast<std::int32_t>(i)};
    samples.push_back({&problems[i / 2], &completions[i], static_cast<std::int64_t>(i / 2)});
  }
  std::vector<WeightedReward> weighted;
  weighted.push_back({"text", 0.5, std::make_unique<TextReward>(seen, num_at_once)});
  const WeightedRewards rewards(std::move(weighted));
  Scored scored{std::vector<std::vector<Score>>(static_cast<std::size_t>(num_ranks)),
                std::vector<int>(static_cast<std::size_t>(num_ranks), 0)};
  test::run_ranks(num_ranks, [&](parallel::Communicator& world, Stream&) {
    const auto rank = static_cast<std::size_t>(world.rank());
    scored.of_rank[rank] = score_samples(
        samples, rewards,
        [](const trainer::Completion& completion) {
          return trainer::CompletionText{.shown = std::to_string(completion.tokens.front())};
        },
        world, [&] { ++scored.num_told[rank]; });
  });
  return scored;
}

std::vector<Problem> make_problems(int count) {
  std::vector<Problem> problems;
  for (int i = 0; i < count; ++i) {
    problems.push_back({concat("p", i), "?", "1", "number"});
  }
  return problems;
}

}  // namespace

TEST_CASE("Every rank scores its own samples once and learns the scores of all") {
  const std::vector<Problem> problems = make_problems(5);
  for (const int num_ranks : {1, 2, 4, 7}) {
    CAPTURE(num_ranks);
    Seen seen;
    const Scored scored = score(problems, num_ranks, 1, seen);
    for (const std::vector<Score>& scores : scored.of_rank) {
      REQUIRE(scores.size() == 10);
      for (std::size_t i = 0; i < scores.size(); ++i) {
        CHECK(scores[i].total == 0.5 * static_cast<double>(i));
        CHECK(scores[i].parts ==
              std::vector<RewardValue>{{static_cast<double>(i), problems[i / 2].id}});
      }
    }
    CHECK(seen.asked.size() == 10);
    CHECK(std::set(seen.asked.begin(), seen.asked.end()).size() == 10);
    CHECK(seen.threads.size() == 5);  // a problem's samples on one rank
    for (int rank = 0; rank < num_ranks; ++rank) {
      int num_own = 0;
      for (int i = rank; i < 5; i += num_ranks) {
        num_own += 2;
      }
      CHECK(scored.num_told[static_cast<std::size_t>(rank)] == num_own);
    }
  }
}

TEST_CASE("A rank has several samples scored side by side where the reward waits") {
  const std::vector<Problem> problems = make_problems(6);
  Seen seen;
  const Scored scored = score(problems, 2, 3, seen);
  CHECK(seen.most_inside >= 2);
  CHECK(seen.most_inside <= 6);
  CHECK(seen.asked.size() == 12);
  CHECK(scored.of_rank[0].back().total == 5.5);
  CHECK(scored.of_rank[1].back().total == 5.5);
}

TEST_CASE("An error of one rank is thrown by all") {
  std::vector<Problem> problems = make_problems(3);
  problems[1].id = "broken";
  for (const int num_at_once : {1, 2}) {
    Seen seen;
    CHECK_THROWS_WITH(score(problems, 3, num_at_once, seen),
                      Catch::Contains("rank 1: no judge can be started"));
  }
}

TEST_CASE("Nothing to score is no question") {
  Seen seen;
  const Scored scored = score({}, 2, 1, seen);
  CHECK(scored.of_rank[1].empty());
  CHECK(seen.asked.empty());
}

}  // namespace fathom::rl
