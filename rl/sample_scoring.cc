#include "rl/sample_scoring.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>

#include "parallel/comm/agree.h"
#include "parallel/comm/sums.h"
#include "rl/rewards/score_state.h"
#include "rl/verifiers/verifier.h"

namespace fathom::rl {
namespace {

using Clock = std::chrono::steady_clock;

// Far below what a communication may wait (parallel/comm/host_communicator.h).
constexpr std::chrono::minutes kTurn{1};

// The samples of one rank.
class OwnSamples {
 public:
  OwnSamples(std::vector<SampleToScore> samples, const WeightedRewards& rewards,
             const ReadCompletion& read)
      : samples_(std::move(samples)), scores_(samples_.size()), rewards_(&rewards), read_(&read) {}

  bool is_done() const { return next_ >= samples_.size(); }
  std::span<const Score> scores() const { return scores_; }

  // Samples that were begun before `end` are scored to their end.
  void score_until(Clock::time_point end, const std::function<void()>& progress) {
    const std::size_t num_left = samples_.size() - std::min(samples_.size(), next_.load());
    const auto num_at_once = std::min(static_cast<std::size_t>(rewards_->num_at_once()), num_left);
    std::vector<std::future<void>> others;  // which their destructors wait for
    for (std::size_t i = 1; i < num_at_once; ++i) {
      others.push_back(std::async(std::launch::async, [&] { work(end, [] {}); }));
    }
    work(end, progress);
    for (std::future<void>& other : others) {
      other.get();
    }
  }

 private:
  void work(Clock::time_point end, const std::function<void()>& progress) {
    while (Clock::now() < end) {
      const std::size_t index = next_++;
      if (index >= samples_.size()) {
        return;
      }
      scores_[index] = score(samples_[index]);
      progress();
    }
  }

  Score score(const SampleToScore& sample) const {
    const std::unique_ptr<const Verifier> verifier =
        make_verifier(sample.problem->verifier, sample.problem->answer);
    const trainer::CompletionText text = (*read_)(*sample.completion);
    const std::string completion = text.whole();
    return rewards_->score({.problem = sample.problem,
                            .verifier = verifier.get(),
                            .completion = completion,
                            .num_tokens = std::ssize(sample.completion->tokens),
                            .num_stop_bytes = text.stop.size()});
  }

  std::vector<SampleToScore> samples_;
  std::vector<Score> scores_;
  std::atomic<std::size_t> next_ = 0;
  const WeightedRewards* rewards_;
  const ReadCompletion* read_;
};

bool are_all_done(const OwnSamples& own, parallel::Communicator& world) {
  const std::int64_t num_at_work = own.is_done() ? 0 : 1;
  return parallel::sum_integers(std::span(&num_at_work, 1), world)[0] == 0;
}

}  // namespace

std::vector<Score> score_samples(std::span<const SampleToScore> samples,
                                 const WeightedRewards& rewards, const ReadCompletion& read,
                                 parallel::Communicator& world,
                                 const std::function<void()>& progress) {
  const auto rank_of = [&](const SampleToScore& sample) {
    return static_cast<std::size_t>(sample.owner % world.world_size());
  };
  std::vector<SampleToScore> mine;
  std::ranges::copy_if(samples, std::back_inserter(mine), [&](const SampleToScore& sample) {
    return rank_of(sample) == static_cast<std::size_t>(world.rank());
  });
  OwnSamples own(std::move(mine), rewards, read);
  do {
    parallel::agree(world, [&] { own.score_until(Clock::now() + kTurn, progress); });
  } while (!are_all_done(own, world));
  std::vector<std::vector<Score>> by_rank = all_gather_scores(own.scores(), world);
  std::vector<std::size_t> num_taken(by_rank.size(), 0);
  std::vector<Score> scores;
  for (const SampleToScore& sample : samples) {
    const std::size_t rank = rank_of(sample);
    scores.push_back(std::move(by_rank[rank][num_taken[rank]++]));
  }
  return scores;
}

}  // namespace fathom::rl
