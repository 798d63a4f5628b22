#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/options.h"
#include "model/pipeline_cut.h"
#include "model/transformer_stage.h"
#include "parallel/mesh.h"
#include "parallel/parameter_buffer.h"

namespace fathom::model {

// The stages of one model that a rank holds, and all their parameters.
class PipelinedModel {
 public:
  // Values are uninitialized zeros: initialize() or a checkpoint fills them. `mesh` and `stream`
  // must outlive the model.
  PipelinedModel(const ModelOptions& options, const PipelineOptions& pipeline,
                 const parallel::Mesh& mesh, Stream& stream);

  void initialize(std::uint64_t seed);

  const ModelOptions& options() const noexcept { return options_; }
  int num_stages() const noexcept { return static_cast<int>(stages_.size()); }
  int stages_per_rank() const noexcept { return num_stages() / mesh_->shape().pipeline; }
  // By global stage; null where another rank holds it.
  std::span<parallel::PipelineStage* const> stages() const noexcept { return stage_pointers_; }
  parallel::ParameterBuffer& parameters() noexcept { return *buffer_; }

  // Of the main model: without those of the MTP modules.
  void for_each_main_parameter(const parallel::VisitParameter& visit);

  // To be called before the schedule runs.
  void begin_step(const StageStep& step);
  // `num_pages` pages for each layer of this rank, for steps of Pass::kGenerate.
  GenerationCache make_cache(CacheForm form, std::int64_t num_pages) const;
  std::vector<TransformerStage::MoeLayer> moe_layers();
  // States without gradient: selection biases.
  void visit_state(parallel::StateVisitor& visitor);

 private:
  ModelOptions options_;
  const parallel::Mesh* mesh_;
  Stream* stream_;
  std::vector<std::unique_ptr<TransformerStage>> stages_;
  std::vector<parallel::PipelineStage*> stage_pointers_;
  std::unique_ptr<parallel::ParameterBuffer> buffer_;
};

}  // namespace fathom::model
