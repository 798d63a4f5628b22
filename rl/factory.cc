#include "rl/factory.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "configs/schema/run.pb.h"
#include "core/error.h"
#include "data/prompt_template.h"
#include "rl/rewards/accuracy_reward.h"
#include "rl/rewards/command_reward.h"
#include "rl/rewards/format_reward.h"
#include "rl/rewards/language_reward.h"
#include "rl/rewards/length_reward.h"
#include "trainer/chat_data.h"
#include "trainer/factory.h"
#include "trainer/token_data.h"

namespace fathom::rl {
namespace {

constexpr std::int64_t kHeldOutOfFamily = 128;
// Within which a shell that finds no program ends.
constexpr std::chrono::milliseconds kLookAtCommand{500};

Surrogate make_surrogate(config::Objective::Surrogate surrogate) {
  switch (surrogate) {
    case config::Objective::SEQUENCE:
      return Surrogate::kSequence;
    case config::Objective::WEIGHTED:
      return Surrogate::kWeighted;
    case config::Objective::TOKEN:
      break;
  }
  return Surrogate::kToken;
}

LossNormalization make_normalization(config::Objective::Normalization normalization) {
  switch (normalization) {
    case config::Objective::PER_TOKEN:
      return LossNormalization::kPerToken;
    case config::Objective::CONSTANT:
      return LossNormalization::kConstant;
    case config::Objective::PER_SAMPLE:
      break;
  }
  return LossNormalization::kPerSample;
}

Script make_script(config::Reward::Script script) {
  switch (script) {
    case config::Reward::HAN:
      return Script::kHan;
    case config::Reward::CYRILLIC:
      return Script::kCyrillic;
    case config::Reward::LATIN:
      break;
  }
  return Script::kLatin;
}

ExtractionOptions make_extraction(const config::Grpo& grpo, const config::Reward& reward) {
  return {.mode = reward.answer() == config::Reward::WHOLE ? ExtractionMode::kWhole
                                                           : ExtractionMode::kTagged,
          .thinking_is_open = grpo.thinking_is_open()};
}

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1e3)));
}

std::unique_ptr<const Reward> make_command_reward(const config::Reward& reward) {
  auto made = std::make_unique<CommandReward>(
      CommandRewardOptions{.command = reward.command(),
                           .time_limit = milliseconds_of(reward.time_limit()),
                           .start_limit = milliseconds_of(reward.start_limit()),
                           .num_processes = reward.processes()});
  made->try_start(kLookAtCommand);
  return made;
}

std::unique_ptr<const Reward> make_reward(const config::RunConfig& config,
                                          const config::Reward& reward) {
  switch (reward.kind()) {
    case config::Reward::FORMAT:
      return std::make_unique<FormatReward>(config.grpo().thinking_is_open());
    case config::Reward::LANGUAGE:
      return std::make_unique<LanguageReward>(make_script(reward.script()));
    case config::Reward::LENGTH:
      return std::make_unique<LengthReward>(config.rollout().max_new_tokens(),
                                            reward.length_cache_tokens());
    case config::Reward::COMMAND:
      return make_command_reward(reward);
    case config::Reward::ACCURACY:
      break;
  }
  return std::make_unique<AccuracyReward>(make_extraction(config.grpo(), reward));
}

ProblemSource make_source(const config::ProblemSource& source, Split split, std::uint64_t seed) {
  return {.file = source.path(),
          .set = {.family = source.family(),
                  .difficulty = source.has_difficulty() ? static_cast<int>(source.difficulty())
                                                        : easiest_difficulty(source.family()),
                  .split = split,
                  .seed = seed},
          .weight = source.weight()};
}

}  // namespace

PolicyLossOptions make_policy_loss_options(const config::RunConfig& config) {
  const config::Objective& objective = config.grpo().objective();
  PolicyLossOptions options;
  options.surrogate = make_surrogate(objective.surrogate());
  options.normalization = make_normalization(objective.normalization());
  options.constant_tokens = static_cast<double>(config.rollout().max_new_tokens());
  options.clip_low = objective.clip_low();
  options.clip_high = objective.clip_high();
  options.kl_weight = objective.kl_weight();
  options.kl_estimator = objective.kl_estimator() == config::Objective::UNBIASED
                             ? KlEstimator::kUnbiased
                             : KlEstimator::kK3;
  options.masks_truncated = objective.mask_truncated();
  if (objective.has_off_policy_threshold()) {
    options.off_policy_threshold = objective.off_policy_threshold();
  }
  validate(options);
  return options;
}

WeightedRewards make_rewards(const config::RunConfig& config) {
  std::vector<WeightedReward> rewards;
  for (const config::Reward& reward : config.grpo().rewards()) {
    try {
      rewards.push_back({reward.name(), reward.weight(), make_reward(config, reward)});
    } catch (const ConfigError& error) {
      throw ConfigError(
          concat("grpo.rewards[", rewards.size(), "] (", reward.name(), "): ", error.message()));
    }
  }
  if (rewards.empty()) {
    rewards.push_back({"accuracy", 1.0, make_reward(config, {})});
  }
  return WeightedRewards(std::move(rewards));
}

std::optional<std::size_t> find_accuracy_reward(const config::RunConfig& config) {
  const auto& rewards = config.grpo().rewards();
  if (rewards.empty()) {
    return 0;  // what make_rewards() makes of none
  }
  const auto found = std::ranges::find(rewards, config::Reward::ACCURACY, &config::Reward::kind);
  return found == rewards.end() ? std::nullopt
                                : std::optional<std::size_t>(found - rewards.begin());
}

std::optional<std::size_t> find_deciding_reward(const config::RunConfig& config) {
  const auto& rewards = config.grpo().rewards();
  const config::DynamicSampling& dynamic = config.grpo().dynamic_sampling();
  const auto found =
      dynamic.has_reward()
          ? std::ranges::find(rewards, dynamic.reward(), &config::Reward::name)
          : std::ranges::find_if(rewards, [](const config::Reward& reward) {
              return reward.kind() == config::Reward::ACCURACY && reward.weight() != 0;
            });
  return found == rewards.end() ? std::nullopt
                                : std::optional<std::size_t>(found - rewards.begin());
}

std::vector<ProblemSource> make_problem_sources(const config::RunConfig& config) {
  std::vector<ProblemSource> sources;
  for (const config::ProblemSource& source : config.grpo().problems()) {
    sources.push_back(make_source(source, Split::kTrain, config.run().seed()));
  }
  return sources;
}

HeldOutProblems make_held_out_problems(const config::RunConfig& config) {
  HeldOutProblems held_out;
  std::map<std::string, std::size_t> source_of_id;
  for (const config::ProblemSource& source : config.grpo().held_out()) {
    const std::size_t number = held_out.num_of_source.size();
    const std::int64_t all = source.path().empty() ? kHeldOutOfFamily : 0;
    // Whatever the seed of the run: runs are compared on the same problems.
    std::vector<Problem> problems = take_problems(make_source(source, Split::kHeldOut, 0),
                                                  source.has_count() ? source.count() : all);
    held_out.num_of_source.push_back(std::ssize(problems));
    for (Problem& problem : problems) {
      const auto [found, is_new] = source_of_id.try_emplace(problem.id, number);
      if (!is_new) {
        throw ConfigError(concat("grpo.held_out[", number, "]: the id \"", problem.id,
                                 "\" is in grpo.held_out[", found->second,
                                 "], too; completions are drawn by it: give each problem an id of "
                                 "its own, or each problem once"));
      }
      held_out.problems.push_back(std::move(problem));
    }
  }
  return held_out;
}

EncodeProblem make_problem_encoder(const config::RunConfig& config,
                                   const data::Tokenizer& tokenizer,
                                   const std::string& prompt_template, bool is_chat) {
  if (!is_chat) {
    return [prompt = data::PromptTemplate(tokenizer, prompt_template,
                                          trainer::make_document_start(config))](
               const Problem& problem) { return prompt.encode(problem.prompt); };
  }
  return [prompt_template,
          encode = trainer::make_chat_encoder(config, tokenizer)](const Problem& problem) {
    return encode(render_prompt(prompt_template, problem.prompt));
  };
}

trainer::CompletionEnd make_rollout_end(const config::RunConfig& config,
                                        const data::Tokenizer& tokenizer) {
  const auto& stop = config.rollout().stop();
  return trainer::make_completion_end(config, tokenizer, config.grpo().chat(),
                                      {stop.begin(), stop.end()});
}

trainer::GenerationOptions make_rollout_options(const config::RunConfig& config,
                                                const data::Tokenizer& tokenizer) {
  const config::Rollout& rollout = config.rollout();
  trainer::GenerationOptions options;
  options.sampling.temperature = static_cast<float>(rollout.temperature());
  options.sampling.top_k = rollout.top_k();
  options.sampling.top_p = static_cast<float>(rollout.top_p());
  options.seed = config.run().seed();
  options.max_new_tokens = rollout.max_new_tokens();
  options.max_sequences = rollout.max_sequences();
  options.max_step_tokens = rollout.max_step_tokens();
  options.cache_tokens = rollout.cache_tokens();
  options.cache = trainer::make_cache_form(config);
  options.uses_graphs = config.run().cuda_graphs();
  trainer::set_vocabulary(tokenizer, make_rollout_end(config, tokenizer), options);
  return options;
}

}  // namespace fathom::rl
