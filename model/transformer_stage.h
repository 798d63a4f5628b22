#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/context.h"
#include "model/decoder_layer.h"
#include "model/embedding.h"
#include "model/lm_head.h"
#include "model/mtp.h"
#include "model/pipeline_cut.h"
#include "parallel/pipeline/executor.h"

namespace fathom::model {

// What a stage reads and adds to while a step runs; set anew for each step.
struct StageStep {
  std::span<const MicroBatch> micro_batches;
  RecomputeOptions recompute;
  Pass pass = Pass::kTrain;
  double assumed_imbalance = 1.0;
  LossSums* losses = nullptr;
  float logit_scale = 1.0F;          // logits of the loss are multiplied by it: 1 / temperature
  RoutingRecord* routing = nullptr;  // see there
  TokenLoss* token_loss = nullptr;   // of depth 0, in place of the targets' weights
  // Called for a parameter when the step has added the last to its gradient; in an order that
  // depends on the schedule alone. May be empty.
  parallel::VisitParameter gradient_complete;
  GenerationCache* cache = nullptr;  // Pass::kGenerate
  // Pass::kGenerate: [rows, vocabulary] of each micro-batch's logit_rows, set by the last stage;
  // undefined when it has none.
  std::span<Tensor> logits;
};

// A run of consecutive decoder layers, with the embedding on the first stage and final norm, head
// and MTP on the last. MTP modules for which a micro-batch has no targets are left out.
class TransformerStage final : public parallel::PipelineStage {
 public:
  TransformerStage(const ModelOptions& options, const StageOptions& stage,
                   const parallel::Mesh& mesh, Stream& stream);

  void begin_step(const StageStep& step);

  Tensor forward(int micro_batch, const Tensor& input) override;
  Tensor backward_input(int micro_batch, const Tensor& output_grad) override;
  void backward_weight(int micro_batch) override;
  Tensor backward(int micro_batch, const Tensor& output_grad) override;
  Shape boundary_shape(int micro_batch) const override;
  DType boundary_dtype() const override { return options_.numerics.activation_dtype; }

  // Adds `num_pages` pages for each layer of this stage.
  void add_cache(GenerationCache& cache, CacheForm form, std::int64_t num_pages) const;

  void for_each_parameter(const parallel::VisitParameter& visit);
  // Without those of the MTP modules.
  void for_each_main_parameter(const parallel::VisitParameter& visit);
  // The MoE layers of this stage, first to last, MTP's after the main model's; with their published
  // layer numbers.
  struct MoeLayer {
    int layer = 0;
    Moe* moe = nullptr;
  };
  std::vector<MoeLayer> moe_layers();
  void visit_state(parallel::StateVisitor& visitor);

 private:
  struct Saved {
    Embedding::Saved embedding;
    std::vector<DecoderLayer::Saved> layers;
    Tensor hidden, final_inv_rms;  // input of the final norm
    std::vector<Mtp::Saved> mtp;
    Tensor d_final_norm;  // through the head; the backward adds what comes through MTP
  };
  Context context(int micro_batch);
  int layer_number(std::size_t index) const { return stage_.first_layer + static_cast<int>(index); }
  void forward_head(const Tensor& hidden, int micro_batch, Saved& saved, const Context& context);
  Tensor backward_head(Saved& saved, const Context& context, bool with_weights);
  void head_weights();
  Tensor run_backward(int micro_batch, const Tensor& output_grad, bool with_weights);
  void mtp_weights(std::size_t index, Saved& saved, const Context& context);
  void layer_weights(std::size_t index, Saved& saved, const Context& context);
  void embedding_weights(Saved& saved, const Context& context);
  void begin_weights() { is_last_use_ = --num_uses_left_ == 0; }
  void complete(parallel::Parameter& parameter);

  ModelOptions options_;
  StageOptions stage_;
  const parallel::Mesh* mesh_;
  Stream* stream_;
  Tensor cos_sin_;
  std::optional<Embedding> embedding_;  // first stage, and the last one with MTP
  std::vector<DecoderLayer> layers_;
  std::optional<RmsNorm> final_norm_;
  std::optional<LmHead> head_;
  std::vector<Mtp> mtp_;
  StageStep step_;
  std::size_t num_uses_left_ = 0;  // micro-batches whose weight gradients are still to come
  bool is_last_use_ = false;       // of the weights in this step: no micro-batch follows
  std::map<int, Saved> saved_;     // by micro-batch in flight
};

}  // namespace fathom::model
