#include "configs/resolve.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <numeric>

#include "configs/tensor_core_sizes.h"

namespace fathom::config {
namespace {

// Nothing is checked yet: `size` may be the one number that has no negative, its remainder is not.
std::int64_t common_divisor(std::int64_t positive, std::int64_t size) {
  return std::gcd(positive, size % positive);
}

// What is not given follows from the model and the sequences alone, never from the layout: another
// layout must have the same bits.
void resolve_numerics(RunConfig& config) {
  Numerics& numerics = *config.mutable_numerics();
  if (!numerics.has_mode()) {
    numerics.set_mode(config.run().device() == Run::CPU ? Numerics::EXACT : Numerics::FAST);
  }
  if (numerics.mode() == Numerics::FAST) {
    return;
  }
  if (!numerics.has_gradient_unit_tokens()) {
    constexpr std::int64_t kUnitTokens = 512;
    numerics.set_gradient_unit_tokens(
        common_divisor(kUnitTokens, config.train().sequence_length()));
  }
  if (!numerics.has_tensor_chunks()) {
    const Model& model = config.model();
    constexpr std::int64_t kChunks = 4;
    std::int64_t chunks = kChunks;
    for (const std::int64_t size :
         {model.vocab_size(), model.num_attention_heads(), model.intermediate_size(),
          (model.moe().num_shared_experts() % kChunks) *
              (model.moe().intermediate_size() % kChunks)}) {
      chunks = common_divisor(chunks, size);
    }
    while (chunks > 1 && !chunks_fit_tensor_cores(config, chunks)) {
      chunks /= 2;
    }
    numerics.set_tensor_chunks(chunks);
  }
}

// Devices that multiply bfloat16 compute in it, with float32 copies of the weights for the update.
void resolve_dtypes(RunConfig& config) {
  Optimizer& optimizer = *config.mutable_optimizer();
  if (config.run().device() == Run::CPU) {
    return;
  }
  if (!optimizer.has_parameter_dtype()) {
    optimizer.set_parameter_dtype(BFLOAT16);
  }
  if (!optimizer.has_master_weights()) {
    optimizer.set_master_weights(optimizer.parameter_dtype() != FLOAT32);
  }
}

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return text;
}

}  // namespace

void resolve(RunConfig& config, const Launch& launch) {
  Mesh& mesh = *config.mutable_mesh();
  if (mesh.data() == 0) {
    const std::int64_t others = std::int64_t{mesh.pipeline()} * mesh.tensor();
    if (launch.world_size == 0) {
      mesh.set_data(1);
    } else if (mesh.pipeline() > 0 && mesh.tensor() > 0 && launch.world_size % others == 0) {
      mesh.set_data(static_cast<std::int32_t>(launch.world_size / others));
    }
  }
  Run& run = *config.mutable_run();
  if (run.threads() == 0) {
    run.set_threads(std::max(1, launch.cores_per_node / std::max(1, launch.ranks_per_node)));
  }
  if (!config.checkpoint().has_directory() && !run.directory().empty()) {
    config.mutable_checkpoint()->set_directory(
        (std::filesystem::path(run.directory()) / "checkpoints").string());
  }
  if (!config.data().has_seed()) {
    config.mutable_data()->set_seed(run.seed());
  }
  if (config.train().has_batch_ramp() && !config.train().batch_ramp().has_increment()) {
    BatchRamp& ramp = *config.mutable_train()->mutable_batch_ramp();
    ramp.set_increment(ramp.start_global_batch_size());
  }
  if (config.model().max_position() == 0) {
    config.mutable_model()->set_max_position(config.train().sequence_length());
  }
  for (int i = 0; i < config.grpo().rewards_size(); ++i) {
    Reward& reward = *config.mutable_grpo()->mutable_rewards(i);
    if (!reward.has_name()) {
      reward.set_name(lower_case(Reward::Kind_Name(reward.kind())));
    }
  }
  resolve_dtypes(config);
  resolve_numerics(config);
}

}  // namespace fathom::config
