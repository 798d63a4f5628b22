#pragma once

#include <string>

#include "configs/run_config.h"

namespace fathom::trainer {

// What --dry_run prints: numerics, parameters, the memory, traffic and work of each pipeline rank
// (rank_plan.h), and for a config with a rollout the memory of sampling (generation_plan.h).
// `config` is resolved and valid.
std::string describe_plan(const config::RunConfig& config);

}  // namespace fathom::trainer
