#include "rl/rollout_sampler.h"

#include <chrono>

#include "core/error.h"
#include "parallel/comm/agree.h"
#include "rl/advantages.h"

namespace fathom::rl {
namespace {

class SecondsOf {
 public:
  explicit SecondsOf(double& total) : total_(&total) {}
  ~SecondsOf() {
    *total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  SecondsOf(const SecondsOf&) = delete;
  SecondsOf& operator=(const SecondsOf&) = delete;

 private:
  double* total_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

// Groups that are sampled together.
struct RolloutSampler::Round {
  trainer::Generator& generator;
  std::int64_t step = 0;
  std::int64_t first_group = 0;  // among all that the step has drawn
  std::vector<RolloutGroup> groups;
  std::function<void()> progress;
  // Writes down what there is; empty where nothing is to be written.
  std::function<void(const RolloutProgress&)> keep;
};

RolloutSampler::RolloutSampler(const RolloutSources& sources, RolloutOptions options,
                               RolloutJournal journal, parallel::Communicator& world)
    : sources_(sources),
      options_(std::move(options)),
      journal_(std::move(journal)),
      world_(&world) {
  parallel::agree(*world_, [&] {
    for (const Problem* problem : sources_.problems.known()) {
      encode(*problem);
    }
  });
}

std::vector<std::int32_t> RolloutSampler::encode(const Problem& problem) const {
  std::vector<std::int32_t> tokens =
      trainer::make_prompt(sources_.tokenizer, problem.id, sources_.encode(problem)).tokens;
  if (std::ssize(tokens) + options_.generation.max_new_tokens > options_.max_tokens) {
    throw ConfigError(
        concat("problem ", problem.id, ": a prompt of ", tokens.size(),
               " tokens and rollout.max_new_tokens (", options_.generation.max_new_tokens,
               ") are more than the ", options_.max_tokens,
               " that train.sequence_length allows: raise it, or take the problem out"));
  }
  return tokens;
}

Rollout RolloutSampler::sample(trainer::Generator& generator, std::int64_t step,
                               std::int64_t first_problem,
                               const std::function<std::uint64_t()>& start,
                               const std::function<void()>& progress) {
  seconds_ = {};
  RolloutIdentity identity{.group_size = options_.group_size};
  RolloutProgress done;
  std::function<void(const RolloutProgress&)> keep;
  if (options_.checkpoint_interval > 0) {
    identity.start = start();
    identity.choices = options_.choices;
    done = journal_.load(step, identity);
    keep = [&](const RolloutProgress& so_far) { journal_.write(step, identity, so_far); };
  }
  Rollout rollout;
  for (const auto& [place, sample] : done) {
    const std::int64_t num_tokens = std::ssize(sample.completion.tokens);
    rollout.num_resumed_samples += num_tokens > 0 ? 1 : 0;
    rollout.num_resumed_tokens += num_tokens;
  }
  std::int64_t num_kept = 0;
  while (num_kept < options_.prompts_per_step && rollout.num_rounds < options_.max_rounds) {
    Round round{generator, step, std::ssize(rollout.groups), {}, progress, keep};
    round.groups =
        draw_groups(first_problem + round.first_group, options_.prompts_per_step - num_kept);
    generate(round, done);
    score(round, done);
    for (RolloutGroup& group : round.groups) {
      normalise(group);
      num_kept += group.is_kept ? 1 : 0;
      rollout.groups.push_back(std::move(group));
    }
    ++rollout.num_rounds;
  }
  return rollout;
}

std::vector<RolloutGroup> RolloutSampler::draw_groups(std::int64_t first_problem,
                                                      std::int64_t count) const {
  std::vector<RolloutGroup> groups(static_cast<std::size_t>(count));
  parallel::agree(*world_, [&] {
    for (std::int64_t i = 0; i < count; ++i) {
      RolloutGroup& group = groups[static_cast<std::size_t>(i)];
      group.problem = sources_.problems.at(first_problem + i);
      group.prompt = encode(group.problem);
      group.samples.resize(static_cast<std::size_t>(options_.group_size));
    }
  });
  return groups;
}

void RolloutSampler::generate(Round& round, RolloutProgress& done) {
  const SecondsOf timing(seconds_.generation);
  std::vector<trainer::Prompt> prompts;
  std::vector<std::pair<std::int64_t, std::int64_t>> places;
  for (std::size_t g = 0; g < round.groups.size(); ++g) {
    const std::int64_t group = round.first_group + static_cast<std::int64_t>(g);
    for (std::int64_t i = 0; i < options_.group_size; ++i) {
      prompts.push_back({.id = std::to_string(group),
                         .sample = i,
                         .tokens = round.groups[g].prompt,
                         .begun = done[{group, i}].completion});
      places.emplace_back(group, i);
    }
  }
  trainer::GenerationOptions options = options_.generation;
  options.purpose = concat("rollout/", round.step);
  const auto take = [&](const std::vector<trainer::Completion>& completions) {
    for (std::size_t i = 0; i < places.size(); ++i) {
      done[places[i]].completion = completions[i];
    }
  };
  const auto each_step = [&](std::int64_t number,
                             const std::vector<trainer::Completion>& completions) {
    if (round.keep && number % options_.checkpoint_interval == 0) {
      take(completions);
      round.keep(done);
    }
  };
  take(round.generator.generate(
      prompts, options,
      {.token = [&](std::size_t, const trainer::Completion&, bool) { round.progress(); },
       .step = each_step}));
  for (std::size_t i = 0; i < places.size(); ++i) {
    RolloutGroup& group =
        round.groups[static_cast<std::size_t>(places[i].first - round.first_group)];
    RolloutSample& sample = group.samples[static_cast<std::size_t>(places[i].second)];
    sample.completion = done[places[i]].completion;
    sample.text = trainer::completion_text(sources_.tokenizer, sample.completion, options_.stop);
  }
}

// Group by group, so that the ranks that wait for the first one see it get on.
void RolloutSampler::score(Round& round, RolloutProgress& done) {
  const SecondsOf timing(seconds_.rewards);
  bool is_new = false;
  for (std::size_t g = 0; g < round.groups.size(); ++g) {
    RolloutGroup& group = round.groups[g];
    const std::int64_t number = round.first_group + static_cast<std::int64_t>(g);
    std::vector<Score> scores;
    if (!done[{number, 0}].score) {
      scores = score_group(group);
      is_new = true;
    }
    for (std::size_t i = 0; i < group.samples.size(); ++i) {
      std::optional<Score>& known = done[{number, static_cast<std::int64_t>(i)}].score;
      if (!known) {
        known = scores[i];
      }
      group.samples[i].score = *known;
    }
    round.progress();
  }
  if (round.keep && is_new) {
    round.keep(done);
  }
}

// By rank 0, for all.
std::vector<Score> RolloutSampler::score_group(const RolloutGroup& group) const {
  std::vector<Score> scores;
  parallel::agree(*world_, [&] {
    if (world_->rank() != 0) {
      return;
    }
    const std::unique_ptr<const Verifier> verifier =
        make_verifier(group.problem.verifier, group.problem.answer);
    std::vector<RewardInput> inputs;
    for (const RolloutSample& sample : group.samples) {
      inputs.push_back({.problem = &group.problem,
                        .verifier = verifier.get(),
                        .completion = sample.text,
                        .num_tokens = std::ssize(sample.completion.tokens)});
    }
    scores = sources_.rewards.score(inputs);
  });
  return broadcast_scores(scores, *world_);
}

void RolloutSampler::normalise(RolloutGroup& group) const {
  std::vector<std::optional<double>> rewards;
  for (const RolloutSample& sample : group.samples) {
    rewards.push_back(sample.score.total);
  }
  const GroupAdvantages advantages = group_advantages(
      rewards, {.group_size = options_.group_size, .divide_by_std = options_.divide_by_std});
  for (std::size_t i = 0; i < group.samples.size(); ++i) {
    group.samples[i].advantage = advantages.values[i];
  }
  group.has_spread = advantages.has_spread[0];
  group.is_kept = group.has_spread || !options_.drops_equal_groups;
}

}  // namespace fathom::rl
