#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "configs/run_config.h"
#include "data/tokenizer.h"
#include "rl/held_out.h"
#include "rl/policy_loss.h"
#include "rl/problem_evaluation.h"
#include "rl/problem_stream.h"
#include "rl/rewards/reward.h"
#include "trainer/generation/sequence.h"
#include "trainer/generation/text.h"

namespace fathom::rl {

// What a resolved and valid config says, in the terms of rl/. All throw ConfigError for what only
// rl/ can judge.

PolicyLossOptions make_policy_loss_options(const config::RunConfig& config);
// Starts the commands of rewards, and refuses those that end at once.
WeightedRewards make_rewards(const config::RunConfig& config);
// The first reward of kind ACCURACY, by its place; nothing where none is of that kind.
std::optional<std::size_t> find_accuracy_reward(const config::RunConfig& config);
// The reward, by its place, that dynamic sampling keeps groups by; nothing: their sum.
std::optional<std::size_t> find_deciding_reward(const config::RunConfig& config);
std::vector<ProblemSource> make_problem_sources(const config::RunConfig& config);
HeldOutProblems make_held_out_problems(const config::RunConfig& config);
// The template with a problem's prompt in it. In a chat that is a user's message, all of it text,
// and data.chat stands around it; else the template's own added tokens are tokens, the problem's
// prompt is text, and data.document_start stands before them. The tokenizer outlives it.
EncodeProblem make_problem_encoder(const config::RunConfig& config,
                                   const data::Tokenizer& tokenizer,
                                   const std::string& prompt_template, bool is_chat);
// rollout.stop and, where grpo.chat is set, the end of data.chat.
trainer::CompletionEnd make_rollout_end(const config::RunConfig& config,
                                        const data::Tokenizer& tokenizer);
// With the tokenizer's vocabulary and the end; its is_stop refers to the tokenizer.
trainer::GenerationOptions make_rollout_options(const config::RunConfig& config,
                                                const data::Tokenizer& tokenizer);

}  // namespace fathom::rl
