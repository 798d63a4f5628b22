#pragma once

#include <cstdint>
#include <vector>

#include "configs/run_config.h"
#include "model/attention_cache.h"

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

  // With a cache of that form.
  std::int64_t cache_bytes(model::CacheForm form) const noexcept;
  std::int64_t weight_bytes(model::CacheForm form) const noexcept;
};

// `config` is resolved and valid for `fathom grpo`. For the longest sequences that there can be.
// One rank stands for those of its pipeline stage.
std::vector<GenerationPlan> plan_generation(const config::RunConfig& config);

}  // namespace fathom::trainer
