#include "rl/rollout_sampler.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "core/error.h"
#include "parallel/comm/agree.h"
#include "rl/advantages.h"
#include "trainer/stopwatch.h"

namespace fathom::rl {
namespace {

std::int64_t num_tokens(std::span<const trainer::Completion> completions) {
  std::int64_t count = 0;
  for (const trainer::Completion& completion : completions) {
    count += std::ssize(completion.tokens);
  }
  return count;
}

// Without groups: what goes on from where another life of the run was.
Rollout begin_rollout(const RolloutProgress& done) {
  Rollout rollout;
  rollout.num_groups_left_aside = done.num_left_aside;
  for (const auto& [number, group] : done.groups) {
    rollout.num_resumed_tokens += num_tokens(group.completions);
    rollout.num_resumed_samples += std::ranges::count_if(
        group.completions,
        [](const trainer::Completion& completion) { return !completion.tokens.empty(); });
  }
  return rollout;
}

}  // namespace

// Groups that are sampled together.
struct RolloutSampler::Round {
  trainer::Generator& generator;
  std::int64_t step = 0;
  const RolloutIdentity& identity;
  const std::function<void()>& progress;
  std::int64_t first_group = 0;  // among all that the step has drawn
  std::vector<RolloutGroup> groups = {};
  std::vector<std::int64_t> num_kept_tokens = {};  // by group: those that are on disk
};

RolloutSampler::RolloutSampler(const RolloutSources& sources, RolloutOptions options,
                               RolloutJournal journal, parallel::Communicator& world)
    : sources_(sources),
      options_(std::move(options)),
      journal_(std::move(journal)),
      world_(&world),
      text_([&tokenizer = sources.tokenizer,
             end = options_.end](const trainer::Completion& completion) {
        return trainer::completion_text(tokenizer, completion, end);
      }) {
  parallel::agree(*world_, [&] {
    for (const Problem* problem : sources_.problems.known()) {
      encode(*problem);
    }
  });
}

std::vector<std::int32_t> RolloutSampler::encode(const Problem& problem) const {
  return encode_prompt(problem, sources_.encode, sources_.tokenizer,
                       {.max_tokens = options_.max_tokens,
                        .max_new_tokens = options_.generation.max_new_tokens,
                        .limited_by = "train.sequence_length"});
}

Rollout RolloutSampler::sample(trainer::Generator& generator, std::int64_t step,
                               std::int64_t first_problem,
                               const std::function<std::uint64_t()>& start,
                               const std::function<void()>& progress) {
  seconds_ = {};
  RolloutIdentity identity{.group_size = options_.group_size};
  RolloutProgress done;
  if (options_.checkpoint_interval > 0) {
    identity.start = start();
    identity.choices = options_.choices;
    done = journal_.load(step, identity);
  }
  Rollout rollout = begin_rollout(done);
  std::int64_t num_kept = 0;
  while (num_kept < options_.prompts_per_step && rollout.num_rounds < options_.max_rounds) {
    Round round{.generator = generator,
                .step = step,
                .identity = identity,
                .progress = progress,
                .first_group = std::ssize(rollout.groups)};
    round.groups =
        draw_groups(first_problem + round.first_group, options_.prompts_per_step - num_kept);
    resume(round, done);
    generate(round);
    score(round);
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
      group.source = sources_.problems.source_at(first_problem + i);
      group.prompt = encode(group.problem);
      group.samples.resize(static_cast<std::size_t>(options_.group_size));
    }
  });
  return groups;
}

// Moves what was loaded of the round's groups into their samples.
void RolloutSampler::resume(Round& round, RolloutProgress& done) const {
  round.num_kept_tokens.assign(round.groups.size(), 0);
  for (std::size_t g = 0; g < round.groups.size(); ++g) {
    const auto node = done.groups.extract(round.first_group + static_cast<std::int64_t>(g));
    if (node.empty()) {
      continue;
    }
    GroupProgress& loaded = node.mapped();
    round.num_kept_tokens[g] = num_tokens(loaded.completions);
    for (std::size_t i = 0; i < loaded.completions.size(); ++i) {
      RolloutSample& sample = round.groups[g].samples[i];
      sample.completion = std::move(loaded.completions[i]);
      if (!loaded.scores.empty()) {
        sample.score = std::move(loaded.scores[i]);
      }
    }
  }
}

void RolloutSampler::generate(Round& round) {
  const trainer::Stopwatch watch;
  std::vector<trainer::Prompt> prompts;
  std::vector<RolloutSample*> samples;
  for (std::size_t g = 0; g < round.groups.size(); ++g) {
    RolloutGroup& group = round.groups[g];
    for (RolloutSample& sample : group.samples) {
      prompts.push_back({.id = std::to_string(round.first_group + static_cast<std::int64_t>(g)),
                         .sample = &sample - group.samples.data(),
                         .tokens = group.prompt,
                         .begun = std::move(sample.completion)});
      samples.push_back(&sample);
    }
  }
  trainer::GenerationOptions options = options_.generation;
  options.purpose = concat("rollout/", round.step);
  const std::int64_t interval = options_.checkpoint_interval;
  std::vector<trainer::Completion> completions = round.generator.generate(
      prompts, options,
      {.token = [&](std::size_t, const trainer::Completion&, bool) { round.progress(); },
       .step =
           [&](std::int64_t number, const std::vector<trainer::Completion>& so_far) {
             if (interval > 0 && number % interval == 0) {
               keep_grown(round, so_far);
             }
           }});
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i]->completion = std::move(completions[i]);
  }
  seconds_.generation += watch.seconds();
}

// Writes down the groups that have more tokens than on disk. `so_far`: of all samples in order.
void RolloutSampler::keep_grown(Round& round,
                                const std::vector<trainer::Completion>& so_far) const {
  const auto size = static_cast<std::size_t>(options_.group_size);
  const auto completions_of = [&](std::size_t g) {
    return std::span(so_far).subspan(g * size, size);
  };
  std::vector<std::int64_t> numbers;
  for (std::size_t g = 0; g < round.groups.size(); ++g) {
    const std::int64_t count = num_tokens(completions_of(g));
    if (count > round.num_kept_tokens[g]) {
      numbers.push_back(round.first_group + static_cast<std::int64_t>(g));
      round.num_kept_tokens[g] = count;
    }
  }
  journal_.write(round.step, round.identity, numbers, [&](std::int64_t number) {
    const auto group = completions_of(static_cast<std::size_t>(number - round.first_group));
    return GroupProgress{.completions = {group.begin(), group.end()}, .scores = {}};
  });
}

// Also those that an earlier life of the run has asked about in vain: what was the matter may have
// been mended.
void RolloutSampler::score(Round& round) {
  const trainer::Stopwatch watch;
  std::vector<SampleToScore> unscored;
  std::vector<RolloutSample*> samples;
  std::vector<std::int64_t> numbers;
  for (std::size_t g = 0; g < round.groups.size(); ++g) {
    const std::int64_t number = round.first_group + static_cast<std::int64_t>(g);
    const std::size_t num_before = samples.size();
    for (RolloutSample& sample : round.groups[g].samples) {
      if (!sample.score.total) {
        unscored.push_back({&round.groups[g].problem, &sample.completion, number});
        samples.push_back(&sample);
      }
    }
    if (samples.size() > num_before) {
      numbers.push_back(number);
    }
  }
  std::vector<Score> scores =
      score_samples(unscored, sources_.rewards, text_, *world_, round.progress);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    samples[i]->score = std::move(scores[i]);
  }
  if (options_.checkpoint_interval > 0) {
    keep_scored(round, numbers);
  }
  seconds_.rewards += watch.seconds();
}

void RolloutSampler::keep_scored(const Round& round,
                                 const std::vector<std::int64_t>& numbers) const {
  journal_.write(round.step, round.identity, numbers, [&](std::int64_t number) {
    GroupProgress progress;
    for (const RolloutSample& sample :
         round.groups[static_cast<std::size_t>(number - round.first_group)].samples) {
      progress.completions.push_back(sample.completion);
      progress.scores.push_back(sample.score);
    }
    return progress;
  });
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
  group.is_kept = !options_.drops_equal_groups || (group.has_spread && decides_to_keep(group));
}

// DAPO (arXiv:2503.14476, section 3.2) asks whether some answers are right and some are wrong:
// lengths of wrong ones alone shall not keep a group.
bool RolloutSampler::decides_to_keep(const RolloutGroup& group) const {
  if (!options_.deciding_reward) {
    return true;
  }
  std::vector<std::optional<double>> values;
  for (const RolloutSample& sample : group.samples) {
    if (sample.score.total) {
      values.push_back(sample.score.parts[*options_.deciding_reward].value);
    }
  }
  return have_spread(values);
}

}  // namespace fathom::rl
