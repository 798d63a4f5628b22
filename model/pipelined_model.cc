#include "model/pipelined_model.h"

#include <algorithm>

#include "core/error.h"
#include "model/init.h"

namespace fathom::model {

PipelinedModel::PipelinedModel(const ModelOptions& options, const PipelineOptions& pipeline,
                               const parallel::Mesh& mesh, Stream& stream)
    : options_(options), mesh_(&mesh), stream_(&stream) {
  const int num_ranks = mesh.shape().pipeline;
  if (pipeline.stages_per_rank > 1 && num_ranks == 1) {
    throw ConfigError(concat("mesh.stages_per_rank (", pipeline.stages_per_rank,
                             ") above 1 needs mesh.pipeline above 1"));
  }
  const std::vector<StageOptions> cut = cut_into_stages(options, pipeline, num_ranks);
  std::vector<parallel::Parameter*> parameters;
  for (int stage = 0; stage < static_cast<int>(cut.size()); ++stage) {
    stages_.push_back(nullptr);
    if (stage % num_ranks == mesh.coordinates().pipeline) {
      stages_.back() = std::make_unique<TransformerStage>(
          options, cut[static_cast<std::size_t>(stage)], mesh, stream);
      stages_.back()->for_each_parameter(
          [&](parallel::Parameter& parameter) { parameters.push_back(&parameter); });
    }
    stage_pointers_.push_back(stages_.back().get());
  }
  // A table that another pipeline rank holds too is reduced last on both: neither holds up its
  // other gradients for one that comes to it later.
  if (num_ranks > 1 && (mesh.is_first_stage() || mesh.is_last_stage())) {
    const auto table = std::ranges::find_if(parameters, [&](const parallel::Parameter* parameter) {
      return parameter->replicas == &mesh.shared_embedding();
    });
    if (table != parameters.end()) {
      std::rotate(parameters.begin(), table, table + 1);
    }
  }
  const parallel::ParameterFormat format{options.numerics.activation_dtype,
                                         options.numerics.gradients, pipeline.group_elements};
  buffer_ = std::make_unique<parallel::ParameterBuffer>(parameters, format, stream);
}

void PipelinedModel::initialize(std::uint64_t seed) {
  for (const parallel::ParameterGroup& group : buffer_->groups()) {
    for (parallel::Parameter* parameter : group.parameters) {
      model::initialize(*parameter, seed, options_.initializer_range, *stream_);
    }
  }
}

void PipelinedModel::for_each_main_parameter(const parallel::VisitParameter& visit) {
  for (const auto& stage : stages_) {
    if (stage) {
      stage->for_each_main_parameter(visit);
    }
  }
}

void PipelinedModel::begin_step(const StageStep& step) {
  for (const auto& stage : stages_) {
    if (stage) {
      stage->begin_step(step);
    }
  }
}

GenerationCache PipelinedModel::make_cache(CacheForm form, std::int64_t num_pages) const {
  GenerationCache cache;
  for (const auto& stage : stages_) {
    if (stage) {
      stage->add_cache(cache, form, num_pages);
    }
  }
  return cache;
}

std::vector<TransformerStage::MoeLayer> PipelinedModel::moe_layers() {
  std::vector<TransformerStage::MoeLayer> layers;
  for (const auto& stage : stages_) {
    if (stage) {
      const auto of_stage = stage->moe_layers();
      layers.insert(layers.end(), of_stage.begin(), of_stage.end());
    }
  }
  return layers;
}

void PipelinedModel::visit_state(parallel::StateVisitor& visitor) {
  for (const auto& stage : stages_) {
    if (stage) {
      stage->visit_state(visitor);
    }
  }
}

}  // namespace fathom::model
