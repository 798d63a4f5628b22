#include <string>
#include <vector>

#include "configs/load.h"
#include "configs/resolve.h"
#include "configs/validate.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::config {
namespace {

using Lines = std::vector<std::string>;

// Problems of a config that is whole but for the overrides.
Lines problems_of(const Lines& overrides) {
  Lines all{"data.train=[]",
            "data.tokenizer=t.json",
            "grpo.problems[0].family=sorting",
            "grpo.prompts_per_step=4",
            "grpo.group_size=4",
            "rollout.max_new_tokens=16",
            "grpo.rewards[0].kind=ACCURACY"};
  all.insert(all.end(), overrides.begin(), overrides.end());
  RunConfig config = load(test::source_path("configs/runs/tiny.textproto"), all);
  resolve(config, {});
  return find_problems(config, 1, Use::kReinforcement);
}

struct Case {
  Lines overrides;
  Lines expected;
};

void check_cases(const std::vector<Case>& cases) {
  for (const Case& bad : cases) {
    CAPTURE(bad.overrides);
    CHECK(problems_of(bad.overrides) == bad.expected);
  }
}

}  // namespace

TEST_CASE("a config of reinforcement that makes sense is accepted") {
  CHECK(problems_of({}).empty());
  CHECK(problems_of({"grpo.rewards=[]"}).empty());           // accuracy alone
  CHECK(problems_of({"train.micro_batch_size=3"}).empty());  // rows are packed: nothing to divide
  CHECK(problems_of({"grpo.objective.kl_weight=0.04", "grpo.reference_refresh_interval=4",
                     "grpo.held_out[0].path=p.jsonl", "evaluation.interval=2",
                     "grpo.rewards[1]={kind: COMMAND command: \"judge\" weight: 0}",
                     "grpo.rewards[2]={kind: LENGTH length_cache_tokens: 16}",
                     "grpo.rewards[3]={kind: ACCURACY name: \"again\" answer: WHOLE}"})
            .empty());
}

TEST_CASE("a model that learnt by reinforcement generates without what it learnt from") {
  RunConfig config = load(test::source_path("configs/runs/tiny.textproto"),
                          {"data.train=[]", "evaluation.interval=2", "grpo.group_size=4"});
  resolve(config, {});
  CHECK(find_problems(config, 1).size() == 2);
  CHECK(find_problems(config, 1, Use::kInference).empty());
}

TEST_CASE("problems and groups that cannot be are reported") {
  check_cases({
      {{"grpo.problems=[]"},
       {"grpo.problems is empty: give at least one { path: ... } or { family: ... }"}},
      {{"grpo.problems[0]={}"}, {"grpo.problems[0] has neither path nor family: give one"}},
      {{"grpo.problems[0].path=p.jsonl"}, {"grpo.problems[0] has both path and family: give one"}},
      {{"grpo.problems[0].weight=0"}, {"grpo.problems[0].weight (0) must be positive"}},
      {{"grpo.held_out[0]={path: \"p\" count: 0}"},
       {"grpo.held_out[0].count (0) must be positive"}},
      {{"grpo.group_size=1"},
       {"grpo.group_size (1) must be at least 2: a completion alone has no other to be better "
        "than"}},
      {{"grpo.group_size=9223372036854775807"},
       {"grpo.group_size (9223372036854775807) is above 2147483647"}},
      {{"grpo.prompts_per_step=0"}, {"grpo.prompts_per_step is not set"}},
      {{"grpo.prompts_per_step=5"},
       {"train.global_batch_size (8) does not divide grpo.prompts_per_step (5) x grpo.group_size "
        "(4) = 20: it is the number of completions of an update"}},
      {{"train.trace.enabled=true"},
       {"train.trace.enabled needs one update a step: set train.global_batch_size (8) to "
        "grpo.prompts_per_step x grpo.group_size (16)"}},
      {{"grpo.prompt_template=Question"},
       {"grpo.prompt_template (\"Question\") has no {prompt} in it"}},
      {{"grpo.dynamic_sampling.max_rounds=0"}, {"grpo.dynamic_sampling.max_rounds is not set"}},
      {{"grpo.samples_interval=-1"}, {"grpo.samples_interval (-1) must not be negative"}},
  });
}

TEST_CASE("whether thinking is open is held against the end of the prompt where that is known") {
  const std::string chat = "grpo.chat=true";
  const std::string open = "grpo.thinking_is_open=true";
  const std::string r1 = "data.chat.assistant=<｜Assistant｜><think>\n";
  const Lines must_be = {
      "data.chat.assistant ends with <think>: completions begin within it, set "
      "grpo.thinking_is_open"};
  const Lines is_not = {
      "grpo.thinking_is_open is set, and data.chat.assistant, with which the "
      "prompt ends, opens no <think>"};
  check_cases({
      {{chat, r1}, must_be},
      {{chat, r1, open}, {}},
      {{r1}, {}},  // without a chat
      {{chat, open}, is_not},
      {{chat, open, "data.chat.assistant=<｜Assistant｜></think>"}, is_not},
      {{chat, open, "data.chat.assistant=<｜Assistant｜><think>\nWell,"}, {}},
      {{chat, "data.chat.assistant=", open}, {}},  // the message's own end
      {{"grpo.prompt_template={prompt} <think>\n"},
       {"grpo.prompt_template ends with <think>: completions begin within it, set "
        "grpo.thinking_is_open"}},
      {{"grpo.prompt_template={prompt} <think>\n", open}, {}},
      {{"grpo.prompt_template=Think in <think></think>. {prompt}", open}, {}},  // the problem's end
      {{"grpo.prompt_template={prompt} Think in <think></think>.", open},
       {"grpo.thinking_is_open is set, and grpo.prompt_template, with which the prompt ends, opens "
        "no <think>"}},
  });
}

TEST_CASE("rewards that mean nothing are reported") {
  check_cases({
      {{"grpo.rewards[0].weight=0"}, {"grpo.rewards all have weight 0: nothing would be learnt"}},
      {{"grpo.rewards[0].kind=COMMAND"}, {"grpo.rewards[0].command is not set"}},
      {{"grpo.rewards[0].command=judge"},
       {"grpo.rewards[0].command means something to COMMAND only"}},
      {{"grpo.rewards[1]={kind: FORMAT name: \"mean\"}"},
       {"grpo.rewards[1].name is mean: reward_mean is that of the whole reward"}},
      {{"grpo.problems[0].count=3", "grpo.held_out[0]={path: \"p\" difficulty: 2 weight: 3}"},
       {"grpo.held_out[0].difficulty is of a family, not of a path",
        "grpo.problems[0].count is of held_out only: training takes problems without end",
        "grpo.held_out[0].weight is of problems only: all held-out ones are taken, see count"}},
      {{"grpo.rewards[1]={kind: COMMAND command: \"judge\" time_limit: 0}"},
       {"grpo.rewards[1].time_limit (0) must be positive"}},
      {{"grpo.rewards[1]={kind: COMMAND command: \"judge\" start_limit: 0 processes: 1025}"},
       {"grpo.rewards[1].start_limit (0) must be positive",
        "grpo.rewards[1].processes (1025) is not in [1, 1024]"}},
      {{"grpo.rewards[1]={kind: COMMAND command: \"judge\" time_limit: 300}"},
       {"grpo.rewards: a completion may take 600 s, 2 x the larger of time_limit and start_limit "
        "of all commands, each as often as completions queue for its processes, not below "
        "train.watchdog_timeout (600): commands that hang would end the "
        "run "
        "instead of their samples"}},
      {{"grpo.rewards[1]={kind: COMMAND command: \"judge\" start_limit: 200}",
        "grpo.rewards[2]={kind: COMMAND command: \"other\" name: \"b\" processes: 1}"},
       // Four completions at once wait for one process of the second: 400 + 4 x 120.
       {"grpo.rewards: a completion may take 880 s, 2 x the larger of time_limit and start_limit "
        "of all commands, each as often as completions queue for its processes, not below "
        "train.watchdog_timeout (600): commands that hang would end the "
        "run "
        "instead of their samples"}},
      {{"grpo.rewards[1]={kind: COMMAND command: \"judge\" time_limit: 299}"}, {}},
      {{"grpo.dynamic_sampling.reward=lenght"},
       {"grpo.dynamic_sampling.reward (\"lenght\") is the name of none of grpo.rewards; mean is "
        "the "
        "whole reward"}},
      {{"grpo.dynamic_sampling.reward=mean"}, {}},
      {{"grpo.dynamic_sampling.reward=accuracy"}, {}},
      {{"grpo.rewards[1].kind=LENGTH"},
       {"grpo.rewards[1].length_cache_tokens (0) is not in [1, rollout.max_new_tokens (16)]"}},
      {{"grpo.rewards[1]={kind: LENGTH length_cache_tokens: 17}"},
       {"grpo.rewards[1].length_cache_tokens (17) is not in [1, rollout.max_new_tokens (16)]"}},
      {{"grpo.rewards[1].kind=ACCURACY"},
       {"grpo.rewards[1]: there is another reward named accuracy; set its name"}},
      {{"grpo.rewards[1]={kind: FORMAT name: \"accuracy\"}"},
       {"grpo.rewards[1]: there is another reward named accuracy; set its name"}},
      {{"grpo.rewards[0].weight=nan"}, {"grpo.rewards[0].weight (nan) is not a finite number"}},
  });
}

TEST_CASE("objective and rollout out of their ranges are reported with their fields") {
  check_cases({
      {{"grpo.objective.clip_low=-0.1"}, {"grpo.objective.clip_low (-0.1) must not be negative"}},
      {{"grpo.objective.clip_high=-1"}, {"grpo.objective.clip_high (-1) must not be negative"}},
      {{"grpo.objective.kl_weight=-1"}, {"grpo.objective.kl_weight (-1) must not be negative"}},
      {{"grpo.objective.off_policy_threshold=-1"},
       {"grpo.objective.off_policy_threshold (-1) must not be negative"}},
      {{"grpo.reference_refresh_interval=2"},
       {"grpo.reference_refresh_interval (2) needs grpo.objective.kl_weight above 0: without it "
        "there is no reference"}},
      {{"rollout.max_new_tokens=0"}, {"rollout.max_new_tokens is not set"}},
      {{"rollout.max_new_tokens=33"},
       {"rollout.max_new_tokens (33) is above train.sequence_length (32): a completion and its "
        "prompt are trained on in one sequence"}},
      {{"rollout.temperature=0"}, {"rollout.temperature (0) must be positive"}},
      {{"rollout.top_k=-1"}, {"rollout.top_k (-1) must not be negative"}},
      {{"rollout.top_p=0"}, {"rollout.top_p (0) is not in (0, 1]"}},
      {{"rollout.top_p=1.5"}, {"rollout.top_p (1.5) is not in (0, 1]"}},
      {{"rollout.stop=\"\""}, {"rollout.stop[0] is empty"}},
      {{"rollout.max_sequences=0"}, {"rollout.max_sequences is not set"}},
      {{"rollout.max_step_tokens=-1"}, {"rollout.max_step_tokens (-1) must be positive"}},
      {{"rollout.cache_tokens=-1"}, {"rollout.cache_tokens (-1) must not be negative"}},
      {{"rollout.cache=LATENT"},
       {"rollout.cache LATENT needs numerics.mode FAST: EXACT promises the log-probabilities of "
        "the "
        "training forward bit for bit, and attention to latents sums in another order"}},
      {{"rollout.cache=LATENT", "numerics.mode=FAST"}, {}},
      {{"rollout.checkpoint_interval=-1"},
       {"rollout.checkpoint_interval (-1) must not be negative"}},
  });
}

TEST_CASE(
    "what belongs to pretraining is refused in reinforcement, and what it needs is asked for") {
  check_cases({
      {{"data.tokenizer="},
       {"data.tokenizer is not set: problems are tokenized with that of the weights' own "
        "training"}},
      {{"train.batch_ramp={start_global_batch_size: 4 ramp_tokens: 100}"},
       {"train.batch_ramp is for pretraining: set grpo.prompts_per_step"}},
      {{"evaluation.prompts=Once"},
       {"evaluation.prompts are for pretrain and sft; grpo writes its samples into the run folder: "
        "use grpo.held_out"}},
      {{"evaluation.interval=10", "data.validation=held-out"},
       {"evaluation.interval (10) needs grpo.held_out"}},
      {{"evaluation.samples_per_problem=0"}, {"evaluation.samples_per_problem is not set"}},
  });
}

}  // namespace fathom::config
