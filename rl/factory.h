#pragma once

#include <vector>

#include "configs/run_config.h"
#include "data/tokenizer.h"
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
WeightedRewards make_rewards(const config::RunConfig& config);
// Where answers stand: as in the reward of kind ACCURACY, in tags without one.
ExtractionOptions make_extraction_options(const config::RunConfig& config);
std::vector<ProblemSource> make_problem_sources(const config::RunConfig& config);
// The problems of grpo.held_out, in order.
std::vector<Problem> make_held_out_problems(const config::RunConfig& config);
// grpo.prompt_template and, where grpo.chat is set, data.chat. The tokenizer outlives it.
EncodeProblem make_problem_encoder(const config::RunConfig& config,
                                   const data::Tokenizer& tokenizer);
// With the tokenizer's vocabulary; its is_stop refers to the tokenizer.
trainer::GenerationOptions make_rollout_options(const config::RunConfig& config,
                                                const data::Tokenizer& tokenizer);
trainer::StopStrings make_stop_strings(const config::RunConfig& config);

}  // namespace fathom::rl
