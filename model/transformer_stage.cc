#include "model/transformer_stage.h"

#include <algorithm>

#include "core/error.h"
#include "core/profiler_range.h"
#include "kernels/elementwise.h"

namespace fathom::model {

TransformerStage::TransformerStage(const ModelOptions& options, const StageOptions& stage,
                                   const parallel::Mesh& mesh, Stream& stream)
    : options_(options), stage_(stage), mesh_(&mesh), stream_(&stream) {
  cos_sin_ = kernels::rope_table(
      kernels::rope_frequencies(options.qk_rope_head_dim, options.rope_theta, options.yarn),
      options.max_position, stream);
  const bool has_mtp = stage.is_last && options.mtp_depth > 0;
  if (stage.is_first || has_mtp) {
    embedding_.emplace(options, mesh,
                       options.mtp_depth > 0 ? mesh.shared_embedding() : mesh.data());
  }
  for (int layer = stage.first_layer; layer < stage.first_layer + stage.num_layers; ++layer) {
    layers_.emplace_back(concat("model.layers.", layer, "."), options,
                         options.is_dense_layer(layer), cos_sin_, mesh);
  }
  if (stage.is_last) {
    final_norm_.emplace("model.norm.weight", options.hidden_size, options.rms_norm_epsilon,
                        mesh.plane());
    head_.emplace(options, mesh);
    for (int depth = 1; depth <= options.mtp_depth; ++depth) {
      mtp_.emplace_back(concat("model.layers.", options.num_layers + depth - 1, "."), depth,
                        options, cos_sin_, mesh);
    }
  }
  for (const MoeLayer& layer : moe_layers()) {
    layer.moe->allocate_state(stream);
  }
}

void TransformerStage::begin_step(const StageStep& step) {
  step_ = step;
  num_uses_left_ = step.micro_batches.size();
  is_last_use_ = false;
}

// The last micro-batch of the step has gone through all that uses the parameter.
void TransformerStage::complete(parallel::Parameter& parameter) {
  if (is_last_use_ && step_.gradient_complete) {
    step_.gradient_complete(parameter);
  }
}

Context TransformerStage::context(int micro_batch) {
  return Context{*stream_,
                 *mesh_,
                 step_.micro_batches[static_cast<std::size_t>(micro_batch)],
                 step_.recompute,
                 step_.pass,
                 step_.assumed_imbalance,
                 step_.losses,
                 nullptr,
                 micro_batch,
                 step_.logit_scale,
                 step_.token_loss,
                 step_.routing};
}

Shape TransformerStage::boundary_shape(int micro_batch) const {
  const MicroBatch& batch = step_.micro_batches[static_cast<std::size_t>(micro_batch)];
  return Shape{batch.num_tokens() / mesh_->tensor().world_size(), options_.hidden_size};
}

void TransformerStage::add_cache(GenerationCache& cache, CacheForm form,
                                 std::int64_t num_pages) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    cache.emplace(layer_number(i), layers_[i].attention().make_cache(form, num_pages, *stream_));
  }
}

Tensor TransformerStage::forward(int micro_batch, const Tensor& input) {
  Context ctx = context(micro_batch);
  Saved saved;
  saved.layers.resize(layers_.size());
  Tensor x = stage_.is_first ? embedding_->forward(ctx.batch.tokens, saved.embedding, ctx) : input;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (step_.cache != nullptr) {
      ctx.cache = &step_.cache->at(layer_number(i));
    }
    const ProfilerRange range(*stream_, "forward of layer", layer_number(i));
    x = layers_[i].forward(x, saved.layers[i], ctx);
  }
  if (stage_.is_last) {
    forward_head(x, micro_batch, saved, ctx);
    x = Tensor();
  }
  if (step_.pass == Pass::kTrain) {
    saved_.insert_or_assign(micro_batch, std::move(saved));
  }
  return x;
}

void TransformerStage::forward_head(const Tensor& hidden, int micro_batch, Saved& saved,
                                    const Context& ctx) {
  saved.hidden = hidden;
  const Tensor normed = final_norm_->forward(hidden, saved.final_inv_rms, ctx.stream);
  if (ctx.pass == Pass::kGenerate) {
    if (const Tensor& rows = ctx.batch.logit_rows; rows.numel() > 0) {
      step_.logits[static_cast<std::size_t>(micro_batch)] = head_->logits(normed, rows, ctx);
    }
    return;
  }
  const ProfilerRange range(*stream_, "head");
  saved.d_final_norm = head_->forward_backward(normed, ctx.batch.targets[0], 0, ctx);
  saved.mtp.resize(std::min(mtp_.size(), ctx.batch.targets.size() - 1));
  Tensor mtp_hidden = normed;
  for (std::size_t k = 0; k < saved.mtp.size(); ++k) {
    mtp_hidden = mtp_[k].forward(mtp_hidden, *embedding_, *head_, saved.mtp[k], ctx);
  }
}

// Through MTP, head and final norm -> gradient of the last layer's output.
Tensor TransformerStage::backward_head(Saved& saved, const Context& ctx, bool with_weights) {
  Tensor d_hidden;
  for (std::size_t k = mtp_.size(); k-- > 0;) {
    if (k < saved.mtp.size()) {
      d_hidden = mtp_[k].backward_input(d_hidden, saved.mtp[k], ctx);
    }
    if (with_weights) {
      mtp_weights(k, saved, ctx);
    }
  }
  if (d_hidden.defined()) {
    kernels::add_in_place(saved.d_final_norm, d_hidden, ctx.stream);
  }
  Tensor dx =
      final_norm_->backward(saved.d_final_norm, saved.hidden, saved.final_inv_rms, ctx.stream);
  saved.hidden = Tensor();
  saved.d_final_norm = Tensor();
  if (with_weights) {
    head_weights();
  }
  return dx;
}

void TransformerStage::mtp_weights(std::size_t index, Saved& saved, const Context& ctx) {
  if (index < saved.mtp.size()) {
    mtp_[index].backward_weight(*embedding_, saved.mtp[index], ctx);
  }
  mtp_[index].for_each_parameter([this](parallel::Parameter& parameter) { complete(parameter); });
}

// Nothing is left to add once MTP has gone through: the head has its gradients since the forward,
// the norm since the gradient of its input. A table that MTP alone uses here is left to
// reduce_gradients(): its other owner is the first stage, which comes to no reduction before it has
// this stage's gradient, and NCCL makes a rank wait for the others of a group at some first calls.
void TransformerStage::head_weights() {
  complete(head_->weight());
  complete(final_norm_->gain());
}

void TransformerStage::layer_weights(std::size_t index, Saved& saved, const Context& ctx) {
  layers_[index].backward_weight(saved.layers[index], ctx);
  layers_[index].for_each_parameter(
      [this](parallel::Parameter& parameter) { complete(parameter); });
}

void TransformerStage::embedding_weights(Saved& saved, const Context& ctx) {
  embedding_->backward_weight(saved.embedding, ctx);
  complete(embedding_->table());
}

Tensor TransformerStage::run_backward(int micro_batch, const Tensor& output_grad,
                                      bool with_weights) {
  const Context ctx = context(micro_batch);
  Saved& saved = saved_.at(micro_batch);
  if (with_weights) {
    begin_weights();
  }
  Tensor dx = stage_.is_last ? backward_head(saved, ctx, with_weights) : output_grad;
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const ProfilerRange range(*stream_, "backward of layer", layer_number(i));
    dx = layers_[i].backward_input(dx, saved.layers[i], ctx);
    if (with_weights) {
      layer_weights(i, saved, ctx);
    }
  }
  if (!stage_.is_first) {
    return dx;
  }
  embedding_->backward_input(dx, saved.embedding);
  if (with_weights) {
    embedding_weights(saved, ctx);
  }
  return Tensor();
}

Tensor TransformerStage::backward_input(int micro_batch, const Tensor& output_grad) {
  return run_backward(micro_batch, output_grad, false);
}

void TransformerStage::backward_weight(int micro_batch) {
  const Context ctx = context(micro_batch);
  Saved& saved = saved_.at(micro_batch);
  begin_weights();
  if (stage_.is_last) {
    for (std::size_t k = mtp_.size(); k-- > 0;) {
      mtp_weights(k, saved, ctx);
    }
    head_weights();
  }
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const ProfilerRange range(*stream_, "weight gradients of layer", layer_number(i));
    layer_weights(i, saved, ctx);
  }
  if (stage_.is_first) {
    embedding_weights(saved, ctx);
  }
  saved_.erase(micro_batch);
}

Tensor TransformerStage::backward(int micro_batch, const Tensor& output_grad) {
  Tensor dx = run_backward(micro_batch, output_grad, true);
  saved_.erase(micro_batch);
  return dx;
}

void TransformerStage::for_each_parameter(const parallel::VisitParameter& visit) {
  for_each_main_parameter(visit);
  for (Mtp& mtp : mtp_) {
    mtp.for_each_parameter(visit);
  }
}

void TransformerStage::for_each_main_parameter(const parallel::VisitParameter& visit) {
  if (embedding_) {
    visit(embedding_->table());
  }
  for (DecoderLayer& layer : layers_) {
    layer.for_each_parameter(visit);
  }
  if (stage_.is_last) {
    visit(final_norm_->gain());
    visit(head_->weight());
  }
}

std::vector<TransformerStage::MoeLayer> TransformerStage::moe_layers() {
  std::vector<MoeLayer> result;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (Moe* moe = layers_[i].moe()) {
      result.push_back({layer_number(i), moe});
    }
  }
  for (std::size_t k = 0; k < mtp_.size(); ++k) {
    if (Moe* moe = mtp_[k].moe()) {
      result.push_back({options_.num_layers + static_cast<int>(k), moe});
    }
  }
  return result;
}

void TransformerStage::visit_state(parallel::StateVisitor& visitor) {
  for (const MoeLayer& layer : moe_layers()) {
    layer.moe->visit_state(visitor, mesh_->plane().rank() == 0);
  }
}

}  // namespace fathom::model
