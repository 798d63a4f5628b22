#pragma once

#include "configs/schema/run.pb.h"
#include "model/pipelined_model.h"
#include "parallel/mesh.h"

namespace fathom::trainer {

// From a resolved and validated config.
parallel::MeshShape make_mesh_shape(const config::Mesh& mesh);
model::PipelineOptions make_pipeline_options(const config::RunConfig& config);
model::RecomputeOptions make_recompute_options(const config::Recompute& recompute);
// Of generation: rollout.cache, else latents where numerics.mode promises no bits.
model::CacheForm make_cache_form(const config::RunConfig& config);

}  // namespace fathom::trainer
