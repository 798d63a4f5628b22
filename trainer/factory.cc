#include "trainer/factory.h"

namespace fathom::trainer {

parallel::MeshShape make_mesh_shape(const config::Mesh& mesh) {
  return {mesh.pipeline(), mesh.data(), mesh.tensor(), mesh.expert()};
}

model::PipelineOptions make_pipeline_options(const config::RunConfig& config) {
  model::PipelineOptions options;
  options.stages_per_rank = config.mesh().stages_per_rank();
  options.layers_per_stage = {config.mesh().layers_per_stage().begin(),
                              config.mesh().layers_per_stage().end()};
  options.group_elements = config.mesh().group_elements();
  options.sequence_length = config.train().sequence_length();
  return options;
}

model::RecomputeOptions make_recompute_options(const config::Recompute& recompute) {
  return {recompute.norms(), recompute.swiglu(), recompute.mla_up_projections(), recompute.layers(),
          recompute.experts()};
}

model::CacheForm make_cache_form(const config::RunConfig& config) {
  const bool is_latent = config.rollout().has_cache()
                             ? config.rollout().cache() == config::Rollout::LATENT
                             : config.numerics().mode() == config::Numerics::FAST;
  return is_latent ? model::CacheForm::kLatent : model::CacheForm::kExpanded;
}

}  // namespace fathom::trainer
