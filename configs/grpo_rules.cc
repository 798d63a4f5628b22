#include <algorithm>
#include <cctype>
#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "configs/rules.h"

namespace fathom::config {
namespace {

constexpr std::string_view kWholeReward = "mean";
constexpr int kMaxProcesses = 1024;  // of a command on a rank

using Sources = google::protobuf::RepeatedPtrField<ProblemSource>;

void check_sources(std::string_view field, const Sources& sources, Problems& problems) {
  for (int i = 0; i < sources.size(); ++i) {
    const ProblemSource& source = sources[i];
    const std::string name = concat(field, '[', i, ']');
    problems.require(source.path().empty() != source.family().empty(), name,
                     source.path().empty() ? " has neither path nor family: give one"
                                           : " has both path and family: give one");
    require_positive(problems, name + ".weight", source.weight());
    problems.require(!source.has_count() || source.count() > 0, name, ".count (", source.count(),
                     ") must be positive");
    problems.require(source.path().empty() || !source.has_difficulty(), name,
                     ".difficulty is of a family, not of a path");
  }
}

void check_reward(const std::string& name, const Reward& reward, const RunConfig& config,
                  Problems& problems) {
  const std::int64_t max_new_tokens = config.rollout().max_new_tokens();
  const bool is_command = reward.kind() == Reward::COMMAND;
  problems.require(is_command == !reward.command().empty(), name,
                   is_command ? ".command is not set" : ".command means something to COMMAND only");
  if (is_command) {
    require_positive(problems, name + ".time_limit", reward.time_limit());
    require_positive(problems, name + ".start_limit", reward.start_limit());
    problems.require(reward.processes() > 0 && reward.processes() <= kMaxProcesses, name,
                     ".processes (", reward.processes(), ") is not in [1, ", kMaxProcesses, "]");
  }
  if (reward.kind() == Reward::LENGTH) {
    problems.require(
        reward.length_cache_tokens() > 0 && reward.length_cache_tokens() <= max_new_tokens, name,
        ".length_cache_tokens (", reward.length_cache_tokens(),
        ") is not in [1, rollout.max_new_tokens (", max_new_tokens, ")]");
  }
}

// A completion waits for a process that others ask, and a command that dies is asked twice.
void check_time_limits(const RunConfig& config, Problems& problems) {
  double at_once = 1;
  for (const Reward& reward : config.grpo().rewards()) {
    at_once = std::max(at_once, reward.kind() == Reward::COMMAND ? reward.processes() : 1.0);
  }
  double seconds = 0;
  for (const Reward& reward : config.grpo().rewards()) {
    if (reward.kind() == Reward::COMMAND) {
      seconds += 2 * std::max(reward.time_limit(), reward.start_limit()) *
                 std::ceil(at_once / std::max(1, reward.processes()));
    }
  }
  problems.require(
      !(seconds > 0 && seconds >= config.train().watchdog_timeout()),
      "grpo.rewards: a completion may take ", seconds,
      " s, 2 x the larger of time_limit and start_limit of all commands, each as often "
      "as completions queue for its processes, not below train.watchdog_timeout (",
      config.train().watchdog_timeout(),
      "): commands that hang would end the run instead of their samples");
}

void check_deciding_reward(const RunConfig& config, Problems& problems) {
  const DynamicSampling& dynamic = config.grpo().dynamic_sampling();
  const auto& rewards = config.grpo().rewards();
  problems.require(!dynamic.has_reward() || dynamic.reward() == kWholeReward ||
                       std::ranges::find(rewards, dynamic.reward(), &Reward::name) != rewards.end(),
                   "grpo.dynamic_sampling.reward (\"", dynamic.reward(),
                   "\") is the name of none of grpo.rewards; ", kWholeReward,
                   " is the whole reward");
}

void check_rewards(const RunConfig& config, Problems& problems) {
  std::set<std::string> names;
  bool counts = config.grpo().rewards_size() == 0;
  for (int i = 0; i < config.grpo().rewards_size(); ++i) {
    const Reward& reward = config.grpo().rewards(i);
    const std::string name = concat("grpo.rewards[", i, ']');
    check_reward(name, reward, config, problems);
    problems.require(names.insert(reward.name()).second, name, ": there is another reward named ",
                     reward.name(), "; set its name");
    problems.require(reward.name() != kWholeReward, name,
                     ".name is mean: reward_mean is that of the whole reward");
    counts = counts || reward.weight() != 0;
  }
  check_time_limits(config, problems);
  check_deciding_reward(config, problems);
  problems.require(counts, "grpo.rewards all have weight 0: nothing would be learnt");
}

void check_groups(const RunConfig& config, Problems& problems) {
  const Grpo& grpo = config.grpo();
  problems.require(grpo.problems_size() > 0,
                   "grpo.problems is empty: give at least one { path: ... } or { family: ... }");
  const bool has_groups =
      problems.require(grpo.group_size() >= 2, "grpo.group_size (", grpo.group_size(),
                       ") must be at least 2: a completion alone has no other to be better than") &&
      require_size(problems, "grpo.group_size", grpo.group_size());
  if (!require_size(problems, "grpo.prompts_per_step", grpo.prompts_per_step()) || !has_groups) {
    return;
  }
  const std::int64_t batch = config.train().global_batch_size();
  const std::int64_t completions = grpo.prompts_per_step() * grpo.group_size();
  problems.require(batch <= 0 || completions % batch == 0, "train.global_batch_size (", batch,
                   ") does not divide grpo.prompts_per_step (", grpo.prompts_per_step(),
                   ") x grpo.group_size (", grpo.group_size(), ") = ", completions,
                   ": it is the number of completions of an update");
  problems.require(!config.train().trace().enabled() || batch == completions,
                   "train.trace.enabled needs one update a step: set train.global_batch_size (",
                   batch, ") to grpo.prompts_per_step x grpo.group_size (", completions, ')');
}

// The rest of the objective is for rl/ to judge, which knows the equations.
void check_objective(const Objective& objective, Problems& problems) {
  require_not_negative(problems, "grpo.objective.clip_low", objective.clip_low());
  require_not_negative(problems, "grpo.objective.clip_high", objective.clip_high());
  require_not_negative(problems, "grpo.objective.kl_weight", objective.kl_weight());
  require_not_negative(problems, "grpo.objective.off_policy_threshold",
                       objective.off_policy_threshold());
}

void check_rollout(const RunConfig& config, Problems& problems) {
  const Rollout& rollout = config.rollout();
  if (require_size(problems, "rollout.max_new_tokens", rollout.max_new_tokens())) {
    problems.require(rollout.max_new_tokens() <= config.train().sequence_length(),
                     "rollout.max_new_tokens (", rollout.max_new_tokens(),
                     ") is above train.sequence_length (", config.train().sequence_length(),
                     "): a completion and its prompt are trained on in one sequence");
  }
  require_positive(problems, "rollout.temperature", rollout.temperature());
  problems.require(rollout.top_k() >= 0, "rollout.top_k (", rollout.top_k(),
                   ") must not be negative");
  problems.require(rollout.top_p() > 0 && rollout.top_p() <= 1, "rollout.top_p (", rollout.top_p(),
                   ") is not in (0, 1]");
  for (int i = 0; i < rollout.stop_size(); ++i) {
    problems.require(!rollout.stop(i).empty(), "rollout.stop[", i, "] is empty");
  }
  require_size(problems, "rollout.max_sequences", rollout.max_sequences());
  require_size(problems, "rollout.max_step_tokens", rollout.max_step_tokens());
  require_not_negative(problems, "rollout.cache_tokens",
                       static_cast<double>(rollout.cache_tokens()));
  problems.require(
      rollout.cache() == Rollout::EXPANDED || config.numerics().mode() == Numerics::FAST,
      "rollout.cache LATENT needs numerics.mode FAST: EXACT promises the log-probabilities of the "
      "training forward bit for bit, and attention to latents sums in another order");
  require_not_negative(problems, "rollout.checkpoint_interval",
                       static_cast<double>(rollout.checkpoint_interval()));
}

// The text that completions follow, where the config alone decides it; else nothing.
struct PromptEnd {
  std::string field;
  std::string text;
};
std::optional<PromptEnd> end_of_prompts(const RunConfig& config) {
  constexpr std::string_view kPlace = "{prompt}";
  const std::string& prompt = config.grpo().prompt_template();
  const std::size_t place = prompt.find(kPlace);
  if (place == std::string::npos) {
    return std::nullopt;
  }
  PromptEnd end{"grpo.prompt_template", prompt.substr(place + kPlace.size())};
  if (config.grpo().chat()) {
    end = {"data.chat.assistant", config.data().chat().assistant()};
  }
  const std::size_t size = end.text.find_last_not_of(" \t\r\n") + 1;
  end.text.resize(size);
  return size == 0 ? std::nullopt : std::optional(end);  // what is put in may end in anything
}

void check_thinking(const RunConfig& config, Problems& problems) {
  constexpr std::string_view kThink = "<think>";
  constexpr std::string_view kEndThink = "</think>";
  const std::optional<PromptEnd> end = end_of_prompts(config);
  if (!end) {
    return;
  }
  const bool is_open = config.grpo().thinking_is_open();
  problems.require(is_open || !end->text.ends_with(kThink), end->field,
                   " ends with <think>: completions begin within it, set grpo.thinking_is_open");
  const std::size_t begin = end->text.rfind(kThink);
  const std::size_t closed = end->text.rfind(kEndThink);
  const bool opens = begin != std::string::npos && (closed == std::string::npos || closed < begin);
  problems.require(!is_open || opens, "grpo.thinking_is_open is set, and ", end->field,
                   ", with which the prompt ends, opens no <think>");
}

}  // namespace

void check_reinforcement(const RunConfig& config, Problems& problems) {
  const Grpo& grpo = config.grpo();
  check_groups(config, problems);
  check_sources("grpo.problems", grpo.problems(), problems);
  check_sources("grpo.held_out", grpo.held_out(), problems);
  for (int i = 0; i < grpo.problems_size(); ++i) {
    problems.require(!grpo.problems(i).has_count(), "grpo.problems[", i,
                     "].count is of held_out only: training takes problems without end");
  }
  for (int i = 0; i < grpo.held_out_size(); ++i) {
    problems.require(!grpo.held_out(i).has_weight(), "grpo.held_out[", i,
                     "].weight is of problems only: all held-out ones are taken, see count");
  }
  check_rewards(config, problems);
  check_objective(grpo.objective(), problems);
  check_rollout(config, problems);
  problems.require(grpo.prompt_template().find("{prompt}") != std::string::npos,
                   "grpo.prompt_template (\"", grpo.prompt_template(), "\") has no {prompt} in it");
  check_thinking(config, problems);
  require_not_negative(problems, "grpo.reference_refresh_interval",
                       static_cast<double>(grpo.reference_refresh_interval()));
  problems.require(grpo.reference_refresh_interval() <= 0 || grpo.objective().kl_weight() > 0,
                   "grpo.reference_refresh_interval (", grpo.reference_refresh_interval(),
                   ") needs grpo.objective.kl_weight above 0: without it there is no reference");
  require_not_negative(problems, "grpo.samples_interval",
                       static_cast<double>(grpo.samples_interval()));
  require_size(problems, "evaluation.samples_per_problem",
               config.evaluation().samples_per_problem());
  problems.require(config.evaluation().prompts_size() == 0,
                   "evaluation.prompts are for pretrain and sft; grpo writes its samples into the "
                   "run folder: use grpo.held_out");
  require_size(problems, "grpo.dynamic_sampling.max_rounds", grpo.dynamic_sampling().max_rounds());
  problems.require(!config.data().tokenizer().empty(),
                   "data.tokenizer is not set: problems are tokenized with that of the weights' "
                   "own training");
  problems.require(!config.train().has_batch_ramp(),
                   "train.batch_ramp is for pretraining: set grpo.prompts_per_step");
}

}  // namespace fathom::config
