#include "trainer/generation_plan.h"

#include <algorithm>

#include "configs/schema/run.pb.h"
#include "kernels/paged_attention.h"
#include "model/factory.h"
#include "model/packed_weights.h"
#include "model/pipelined_model.h"
#include "parallel/comm/meta_communicator.h"
#include "trainer/factory.h"
#include "trainer/generation/scheduler.h"

namespace fathom::trainer {
namespace {

// The most that sampling a step's groups can need on a data rank.
std::int64_t num_pages(const config::RunConfig& config) {
  const config::Rollout& rollout = config.rollout();
  const std::int64_t num_ranks = config.mesh().data();
  const std::int64_t num_completions =
      config.grpo().prompts_per_step() * config.grpo().group_size();
  GenerationOptions options;
  options.cache_tokens = rollout.cache_tokens();
  // A completion with its prompt is trained on in one sequence, whose last target is never fed, and
  // the model has positions for it.
  return num_cache_pages(
      options, std::min(rollout.max_sequences(), (num_completions + num_ranks - 1) / num_ranks),
      config.train().sequence_length());
}

GenerationPlan plan_rank(const config::RunConfig& config, int rank) {
  Stream stream(Device{DeviceType::kMeta, 0});
  const parallel::MeshShape shape = make_mesh_shape(config.mesh());
  const auto world = parallel::make_meta_world(rank, shape.world_size());
  const parallel::Mesh mesh(*world, shape);
  model::PipelinedModel model(model::make_model_options(config), make_pipeline_options(config),
                              mesh, stream);
  const std::int64_t pages = num_pages(config);
  GenerationPlan plan;
  plan.rank = rank;
  plan.num_tokens = pages * kernels::kPageTokens;
  for (const auto& [layer, cache] : model.make_cache(model::CacheForm::kExpanded, pages)) {
    plan.expanded_bytes += cache.pages.size_bytes();
  }
  for (const auto& [layer, cache] : model.make_cache(model::CacheForm::kLatent, pages)) {
    plan.latent_bytes += cache.pages.size_bytes();
    plan.absorbed_bytes += cache.packed_key.size_bytes() + cache.packed_value.size_bytes();
  }
  const std::int64_t before = stream.allocator()->bytes_in_use();
  const model::PackedWeights packed(model, stream);
  plan.packed_bytes = stream.allocator()->bytes_in_use() - before;
  return plan;
}

}  // namespace

std::int64_t GenerationPlan::cache_bytes(model::CacheForm form) const noexcept {
  return form == model::CacheForm::kLatent ? latent_bytes : expanded_bytes;
}

std::int64_t GenerationPlan::weight_bytes(model::CacheForm form) const noexcept {
  return packed_bytes + (form == model::CacheForm::kLatent ? absorbed_bytes : 0);
}

std::vector<GenerationPlan> plan_generation(const config::RunConfig& config) {
  const parallel::MeshShape shape = make_mesh_shape(config.mesh());
  std::vector<GenerationPlan> plans;
  for (int stage = 0; stage < shape.pipeline; ++stage) {
    plans.push_back(plan_rank(config, stage * shape.data * shape.tensor));
  }
  return plans;
}

}  // namespace fathom::trainer
