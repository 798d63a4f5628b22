#include "rl/grpo_task.h"

#include <algorithm>
#include <filesystem>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "core/file.h"
#include "data/checksum.h"
#include "parallel/comm/agree.h"
#include "trainer/chat_data.h"

namespace fathom::rl {
namespace {

// A judge may be down for a while; one that is down for so long is not going to come back.
constexpr int kMaxStepsWithoutVerdict = 3;

// What samples and their scores depend on, beside the state of the run.
std::string sampling_choices(const config::RunConfig& config, const GrpoSources& sources) {
  config::RunConfig choices;
  *choices.mutable_model() = config.model();
  *choices.mutable_grpo() = config.grpo();
  choices.mutable_grpo()->clear_held_out();
  choices.mutable_grpo()->clear_samples_interval();
  for (config::Reward& reward : *choices.mutable_grpo()->mutable_rewards()) {
    reward.clear_time_limit();
    reward.clear_start_limit();
    reward.clear_processes();
  }
  *choices.mutable_rollout() = config.rollout();
  choices.mutable_rollout()->clear_max_sequences();
  choices.mutable_rollout()->clear_max_step_tokens();
  choices.mutable_rollout()->clear_cache_tokens();
  choices.mutable_rollout()->clear_checkpoint_interval();
  choices.mutable_run()->set_seed(config.run().seed());
  *choices.mutable_numerics() = config.numerics();
  *choices.mutable_data()->mutable_chat() = config.data().chat();
  choices.mutable_data()->set_seed(config.data().seed());
  std::string problems;  // files may be edited
  for (const Problem* problem : sources.problems.known()) {
    problems += to_json_line(*problem);
  }
  return concat(choices.SerializeAsString(), sources.tokenizer->hash(), data::checksum(problems));
}

bool is_exact(const config::RunConfig& config) {
  return config.numerics().mode() == config::Numerics::EXACT;
}

void require_room(const HeldOutProblems& held_out, const GrpoSources& sources,
                  const config::RunConfig& config) {
  const PromptRoom room = {
      .max_tokens = std::max(config.model().max_position(), config.train().sequence_length()) + 1,
      .max_new_tokens = config.rollout().max_new_tokens(),
      .limited_by = "model.max_position"};
  auto problem = held_out.problems.begin();
  for (std::size_t i = 0; i < held_out.num_of_source.size(); ++i) {
    for (std::int64_t j = 0; j < held_out.num_of_source[i]; ++j, ++problem) {
      try {
        encode_prompt(*problem, sources.encode, *sources.tokenizer, room);
      } catch (const ConfigError& error) {
        throw ConfigError(concat("grpo.held_out[", i, "]: ", error.message()));
      }
    }
  }
}

}  // namespace

GrpoSources::GrpoSources(const config::RunConfig& config)
    : tokenizer(trainer::load_tokenizer(config)),
      problems(make_problem_sources(config), config.data().seed()),
      held_out(make_held_out_problems(config)),
      encode(make_problem_encoder(config, *tokenizer, config.grpo().prompt_template(),
                                  config.grpo().chat())),
      rewards(make_rewards(config)),
      loss(make_policy_loss_options(config)) {
  require_room(held_out, *this, config);
}

GrpoTask::GrpoTask(trainer::TrainingLoop& loop, const GrpoSources& sources)
    : loop_(&loop),
      sources_(&sources),
      generator_(loop.model(), loop.mesh(), loop.stream()),
      reference_(sources.loss.kl_weight > 0
                     ? std::make_optional<ReferencePolicy>(loop.model().parameters(), loop.stream())
                     : std::nullopt),
      sampler_({sources.problems, sources.encode, sources.rewards, *sources.tokenizer},
               rollout_options(),
               RolloutJournal(std::filesystem::path(loop.config().run().directory()) / "rollout",
                              loop.environment().world),
               loop.environment().world),
      updater_(loop.train_step(), loop.model(), loop.mesh(), loop.stream(),
               reference_ ? &*reference_ : nullptr) {}

RolloutOptions GrpoTask::rollout_options() const {
  const config::RunConfig& config = loop_->config();
  const config::DynamicSampling& dynamic = config.grpo().dynamic_sampling();
  RolloutOptions options;
  options.prompts_per_step = config.grpo().prompts_per_step();
  options.group_size = config.grpo().group_size();
  options.divide_by_std = config.grpo().divide_by_std();
  options.drops_equal_groups = dynamic.enabled();
  options.deciding_reward = find_deciding_reward(config);
  options.max_rounds = dynamic.enabled() ? dynamic.max_rounds() : 1;
  options.max_tokens = config.train().sequence_length() + 1;
  options.generation = make_rollout_options(config, *sources_->tokenizer);
  options.end = make_rollout_end(config, *sources_->tokenizer);
  options.checkpoint_interval = config.rollout().checkpoint_interval();
  options.choices = sampling_choices(config, *sources_);
  return options;
}

PolicyUpdateOptions GrpoTask::update_options() const {
  const config::RunConfig& config = loop_->config();
  PolicyUpdateOptions options;
  options.loss = sources_->loss;
  options.batch_size = config.train().global_batch_size();
  options.sequence_length = config.train().sequence_length();
  options.micro_batch_size = config.train().micro_batch_size();
  options.temperature = static_cast<float>(config.rollout().temperature());
  options.samples_are_exact = is_exact(config);
  options.replays_routing = config.grpo().routing_replay();
  return options;
}

void GrpoTask::begin() {
  const config::Rollout& rollout = loop_->config().rollout();
  if (loop_->reporter() != nullptr && (rollout.top_k() > 0 || rollout.top_p() < 1)) {
    loop_->reporter()->note(
        "rollout.top_k or rollout.top_p cuts the choice of the sampler, and the loss takes the "
        "log-probabilities of all tokens: its gradient is not that of the policy that sampled");
  }
  if (loop_->progress().step == 0 && reference_) {
    reference_->refresh();
  }
}

// With a divergence term the state has a reference policy, without one it has none.
void GrpoTask::check_resume(const config::RunConfig& stored) const {
  const double before = stored.grpo().objective().kl_weight();
  const double now = loop_->config().grpo().objective().kl_weight();
  if ((before > 0) == (now > 0)) {
    return;
  }
  throw ConfigError(concat("grpo.objective.kl_weight is ", now, " and was ", before,
                           now > 0
                               ? " in the run that wrote the checkpoint, which has no reference "
                                 "policy to go on with: set it to 0"
                               : " in the run that wrote the checkpoint, whose reference policy "
                                 "would be lost: set it above 0",
                           ", or start a new run with train.init_from"));
}

void GrpoTask::visit_state(parallel::StateVisitor& visitor) {
  if (reference_) {
    reference_->visit_state(visitor);
  }
}

void GrpoTask::saved() { sampler_.journal().forget(loop_->progress().step); }

// At the start of a step, so that a resume finds in the checkpoint the reference that it needs.
void GrpoTask::refresh_reference() {
  const std::int64_t interval = loop_->config().grpo().reference_refresh_interval();
  const std::int64_t step = loop_->progress().step;
  if (interval > 0 && step > 0 && step % interval == 0) {
    reference_->refresh();
  }
}

void GrpoTask::take_step() {
  const trainer::Stopwatch watch;
  refresh_reference();
  const std::int64_t step = loop_->progress().step + 1;
  loop_->begin_phase("rollout");
  const Rollout rollout = sampler_.sample(
      generator_, step, loop_->progress().samples, [this] { return loop_->state_hash(); },
      [this] { loop_->environment().heartbeat.count_progress(); });
  note_resumed(rollout, step);
  write_samples(rollout, step);
  std::int64_t num_tokens = 0;
  for (const RolloutGroup& group : rollout.groups) {
    for (const RolloutSample& sample : group.samples) {
      num_tokens += std::ssize(group.prompt) + std::ssize(sample.completion.tokens);
    }
  }
  const trainer::StepOptions options = loop_->step_options(num_tokens);
  PolicyUpdateResult result = updater_.update(
      rollout, update_options(), options, [this](const char* phase) { loop_->begin_phase(phase); });
  const RolloutSummary summary = summarize(rollout, sources_->loss);
  report(rollout, summary, result, options.learning_rate, watch.seconds());
  end_without_verdicts(rollout, summary);
}

// The same on all ranks.
void GrpoTask::end_without_verdicts(const Rollout& rollout, const RolloutSummary& summary) {
  num_steps_without_verdict_ = summary.reward_mean ? 0 : num_steps_without_verdict_ + 1;
  if (num_steps_without_verdict_ >= kMaxStepsWithoutVerdict) {
    throw parallel::Shared<IoError>(
        concat("no completion of the last ", num_steps_without_verdict_,
               " steps has a verdict: grpo.rewards do not work; the first reason of step ",
               loop_->progress().step, ": ", first_failure(rollout),
               ". Mend it and start the same command again: it goes on from the newest "
               "checkpoint"));
  }
}

void GrpoTask::note_resumed(const Rollout& rollout, std::int64_t step) const {
  if (loop_->reporter() == nullptr ||
      rollout.num_resumed_tokens + rollout.num_groups_left_aside == 0) {
    return;
  }
  std::string line =
      concat("step ", step, " went on from ", rollout.num_resumed_tokens, " tokens of ",
             rollout.num_resumed_samples, " samples that were drawn before");
  if (rollout.num_groups_left_aside > 0) {
    line += concat(
        "; groups left aside in rollout/, damaged, of other weights or settings, or not "
        "the same on all ranks: ",
        rollout.num_groups_left_aside);
  }
  loop_->reporter()->note(line);
}

void GrpoTask::write_samples(const Rollout& rollout, std::int64_t step) const {
  const std::int64_t interval = loop_->config().grpo().samples_interval();
  trainer::Reporter* reporter = loop_->reporter();
  if (reporter == nullptr || interval == 0 || step % interval != 0) {
    return;
  }
  reporter->try_to_write("samples", [&] {
    rl::write_samples(rollout, {sources_->rewards.names(), sources_->loss, sampler_.text()},
                      std::filesystem::path(loop_->config().run().directory()) / "samples" /
                          numbered_name("step-", step, ".jsonl"));
  });
}

void GrpoTask::report(const Rollout& rollout, const RolloutSummary& summary,
                      PolicyUpdateResult& result, double learning_rate, double seconds) {
  const PolicyStatistics& statistics = result.statistics;
  const double generation = sampler_.seconds().generation;
  const double rewards = sampler_.seconds().rewards;
  const double training = std::max(1e-9, seconds - generation - rewards);
  const auto per_token = [&](double sum) {
    return statistics.num_tokens == 0 ? 0.0 : sum / static_cast<double>(statistics.num_tokens);
  };
  std::vector<trainer::Metric> more =
      to_metrics(summary, sources_->rewards.names(), loop_->config().grpo().problems_size());
  const std::vector<trainer::Metric> of_update = {
      {"rollout_rounds", std::int64_t{rollout.num_rounds}},
      {"updates", std::int64_t{result.num_updates}},
      {"updates_skipped", std::int64_t{result.num_skipped}},
      {"kl", per_token(statistics.kl_sum)},
      {"policy_moved", per_token(statistics.old_kl_sum)},
      {"clip_fraction", per_token(static_cast<double>(statistics.num_clipped_tokens))},
      {"masked_sequences", statistics.num_masked_sequences},
      {"ratio_min", result.num_updates == 0 ? 1.0 : statistics.ratio_min},
      {"ratio_max", result.num_updates == 0 ? 1.0 : statistics.ratio_max},
      {"first_ratio_min", result.first_ratio_min},
      {"first_ratio_max", result.first_ratio_max},
      {"logprob_gap_max", result.largest_gap},
      {"generation_tokens_per_s",
       static_cast<double>(summary.completion_tokens) / std::max(1e-9, generation)},
      {"training_tokens_per_s", static_cast<double>(result.num_tokens) / training},
      {"generation_share", generation / seconds},
      {"rewards_share", rewards / seconds},
      {"training_share", training / seconds}};
  more.insert(more.end(), of_update.begin(), of_update.end());
  result.step.phase_ms["generation"] = generation * 1e3;
  result.step.phase_ms["rewards"] = rewards * 1e3;
  loop_->finish_step(
      {.result = result.step,
       .num_tokens = summary.prompt_tokens + summary.completion_tokens,
       .num_samples = summary.num_groups,
       .more = more,
       .learning_rate = learning_rate,
       .shown =
           concat("reward ", summary.reward_mean ? trainer::fixed(*summary.reward_mean, 3) : "none",
                  "  length ", trainer::fixed(summary.mean_length, 1), "  entropy ",
                  trainer::fixed(summary.entropy, 3), "  ratio ",
                  trainer::fixed(result.first_ratio_min, 6)),
       .seconds = seconds});
  if (trainer::Reporter* const reporter = loop_->reporter();
      reporter != nullptr && !summary.reward_mean) {
    reporter->note(concat(
        "step ", loop_->progress().step, ": none of ", summary.num_samples,
        " samples has a verdict, nothing was learnt; the first reason: ", first_failure(rollout)));
  }
}

std::vector<Score> GrpoTask::score(std::span<const trainer::Completion> completions) const {
  const auto num_of_problem =
      static_cast<std::size_t>(loop_->config().evaluation().samples_per_problem());
  std::vector<SampleToScore> samples;
  for (std::size_t i = 0; i < completions.size(); ++i) {
    const std::size_t problem = i / num_of_problem;
    samples.push_back({&sources_->held_out.problems[problem], &completions[i],
                       static_cast<std::int64_t>(problem)});
  }
  return score_samples(samples, sources_->rewards, sampler_.text(), loop_->environment().world,
                       [this] { loop_->environment().heartbeat.count_progress(); });
}

HeldOutSamples GrpoTask::sample_held_out() {
  const config::Evaluation& evaluation = loop_->config().evaluation();
  ProblemSamplingOptions options;
  options.num_samples = evaluation.samples_per_problem();
  options.generation = make_rollout_options(loop_->config(), *sources_->tokenizer);
  options.generation.sampling = {.temperature = static_cast<float>(evaluation.temperature())};
  options.generation.purpose = "evaluation";
  options.progress = [this] { loop_->environment().heartbeat.count_progress(); };
  HeldOutSamples samples;
  samples.num_of_problem = options.num_samples;
  samples.completions = sample_problems(generator_, *sources_->tokenizer,
                                        sources_->held_out.problems, sources_->encode, options);
  samples.scores = score(samples.completions);
  samples.accuracy = find_accuracy_reward(loop_->config());
  return samples;
}

void GrpoTask::evaluate() {
  const HeldOutProblems& held_out = sources_->held_out;
  if (held_out.problems.empty()) {
    return;
  }
  loop_->begin_phase("evaluate");
  const trainer::Stopwatch watch;
  const HeldOutSamples samples = sample_held_out();
  trainer::Reporter* const reporter = loop_->reporter();
  if (reporter == nullptr) {
    return;
  }
  std::vector<trainer::Metric> metrics = {{"event", std::string("eval")},
                                          {"step", loop_->progress().step},
                                          {"tokens", loop_->progress().tokens},
                                          {"eval_ms", watch.seconds() * 1e3}};
  const std::vector<trainer::Metric> more =
      to_metrics(samples, held_out, sources_->rewards.names());
  metrics.insert(metrics.end(), more.begin(), more.end());
  reporter->write(metrics);
  reporter->note(concat("held-out problems: ", describe(samples)));
}

}  // namespace fathom::rl
