#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "configs/run_config.h"

namespace fathom::trainer {

// What a rank of `fathom grpo` holds beside weights, gradients and optimizer while it samples,
// found on the meta device.
struct GenerationPlan {
  int rank = 0;
  std::int64_t num_tokens = 0;      // that its cache holds
  std::int64_t expanded_bytes = 0;  // of a cache of keys and values
  std::int64_t latent_bytes = 0;    // of one of latents
  std::int64_t packed_bytes = 0;    // the weights again (model/packed_weights.h)
  std::int64_t absorbed_bytes = 0;  // W_kvb once more, with a cache of latents
};

// `config` is resolved and valid for `fathom grpo`. For the longest sequences that there can be.
// One rank stands for those of its pipeline stage.
std::vector<GenerationPlan> plan_generation(const config::RunConfig& config);

// What --dry_run prints of it; nothing for a config without a rollout.
std::string describe_generation(const config::RunConfig& config);

}  // namespace fathom::trainer
