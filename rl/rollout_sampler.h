#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "data/tokenizer.h"
#include "parallel/comm/communicator.h"
#include "rl/problem_prompt.h"
#include "rl/problem_stream.h"
#include "rl/rollout.h"
#include "rl/rollout_journal.h"
#include "rl/sample_scoring.h"
#include "trainer/generation/generator.h"
#include "trainer/generation/text.h"

namespace fathom::rl {

struct RolloutOptions {
  std::int64_t prompts_per_step = 0;
  std::int64_t group_size = 0;
  bool divide_by_std = true;
  bool drops_equal_groups = false;  // dynamic sampling
  // Of it: the reward, by its place, whose values decide whether a group is kept; nothing: the sum.
  std::optional<std::size_t> deciding_reward;
  std::int64_t max_rounds = 1;
  std::int64_t max_tokens = 0;  // of a prompt and its completion together
  trainer::GenerationOptions generation;
  trainer::CompletionEnd end;
  std::int64_t checkpoint_interval = 0;  // tokens of a sequence between writings; 0: none
  std::string choices;  // the config that samples and scores depend on; of the journal
};

// What a step samples from; all outlive the sampler.
struct RolloutSources {
  const ProblemStream& problems;
  const EncodeProblem& encode;
  const WeightedRewards& rewards;
  const data::Tokenizer& tokenizer;
};

// Samples groups of completions from the policy, scores and normalises them. Everything is decided
// in the order of the problems, nothing by who finishes first: the same on all ranks and in every
// layout (EXACT), whenever it was interrupted.
class RolloutSampler {
 public:
  // Collective. Throws ConfigError for a problem of a file whose prompt leaves no room for
  // max_new_tokens.
  RolloutSampler(const RolloutSources& sources, RolloutOptions options, RolloutJournal journal,
                 parallel::Communicator& world);

  // The rollout of a step, from problem `first_problem` on. `start` is asked for the hash of the
  // run's state where the journal is used; `progress` is called as tokens are drawn and samples
  // scored by this rank: group g of the step by rank g modulo their number. Collective. Throws
  // ConfigError for a prompt that is too long, IoError when the journal cannot be written, and what
  // the generator and score_samples() throw.
  Rollout sample(trainer::Generator& generator, std::int64_t step, std::int64_t first_problem,
                 const std::function<std::uint64_t()>& start,
                 const std::function<void()>& progress);

  // Seconds of the last sample().
  struct Seconds {
    double generation = 0;
    double rewards = 0;
  };
  const Seconds& seconds() const noexcept { return seconds_; }
  const RolloutJournal& journal() const noexcept { return journal_; }
  // Of the completions that it draws.
  const ReadCompletion& text() const noexcept { return text_; }

 private:
  struct Round;
  std::vector<std::int32_t> encode(const Problem& problem) const;
  std::vector<RolloutGroup> draw_groups(std::int64_t first_problem, std::int64_t count) const;
  void resume(Round& round, RolloutProgress& done) const;
  void generate(Round& round);
  void keep_grown(Round& round, const std::vector<trainer::Completion>& so_far) const;
  void score(Round& round);
  void keep_scored(const Round& round, const std::vector<std::int64_t>& numbers) const;
  void normalise(RolloutGroup& group) const;
  bool decides_to_keep(const RolloutGroup& group) const;

  RolloutSources sources_;
  RolloutOptions options_;
  RolloutJournal journal_;
  parallel::Communicator* world_;
  ReadCompletion text_;
  Seconds seconds_;
};

}  // namespace fathom::rl
