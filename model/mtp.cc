#include "model/mtp.h"

#include "kernels/elementwise.h"

namespace fathom::model {
namespace {

// Columns [half * hidden, (half + 1) * hidden) of eh_proj, whole on every rank.
Linear projection_half(const std::string& prefix, std::int64_t hidden, int half,
                       const parallel::Mesh& mesh) {
  parallel::Parameter parameter =
      parallel::whole_parameter(prefix + "eh_proj.weight", Shape{hidden, 2 * hidden}, mesh.plane());
  parameter.name += half == 0 ? " (embedding half)" : " (hidden half)";
  parameter.shape = Shape{hidden, hidden};
  parameter.pieces[0].num_columns = hidden;
  parameter.pieces[0].column_begin = half * hidden;
  return Linear(parameter);
}

}  // namespace

Mtp::Mtp(const std::string& prefix, int depth, const ModelOptions& options, const Tensor& cos_sin,
         const parallel::Mesh& mesh)
    : depth_(depth),
      embedding_norm_(prefix + "enorm.weight", options.hidden_size, options.rms_norm_epsilon,
                      mesh.plane()),
      hidden_norm_(prefix + "hnorm.weight", options.hidden_size, options.rms_norm_epsilon,
                   mesh.plane()),
      head_norm_(prefix + "shared_head.norm.weight", options.hidden_size, options.rms_norm_epsilon,
                 mesh.plane()),
      embedding_projection_(projection_half(prefix, options.hidden_size, 0, mesh)),
      hidden_projection_(projection_half(prefix, options.hidden_size, 1, mesh)),
      layer_(prefix, options, options.moe.num_experts == 0, cos_sin, mesh) {}

Tensor Mtp::forward(const Tensor& hidden, const Embedding& embedding, LmHead& head, Saved& saved,
                    const Context& context) const {
  Stream& stream = context.stream;
  const auto depth = static_cast<std::size_t>(depth_);
  saved.hidden = hidden;
  saved.embedded =
      embedding.forward(context.batch.targets[depth - 1].ids, saved.embedding, context);
  saved.embedded_normed = embedding_norm_.forward(saved.embedded, saved.embedded_inv_rms, stream);
  saved.hidden_normed = hidden_norm_.forward(hidden, saved.hidden_inv_rms, stream);
  Tensor projected = embedding_projection_.forward(saved.embedded_normed, stream);
  kernels::add_in_place(projected, hidden_projection_.forward(saved.hidden_normed, stream), stream);
  saved.y = layer_.forward(projected, saved.layer, context);
  const Tensor normed = head_norm_.forward(saved.y, saved.y_inv_rms, stream);
  saved.d_head_norm = head.forward_backward(normed, context.batch.targets[depth], depth_, context);
  if (context.pass != Pass::kTrain) {
    saved = Saved();
  }
  return normed;
}

Tensor Mtp::backward_input(const Tensor& dy, Saved& saved, const Context& context) {
  Stream& stream = context.stream;
  if (dy.defined()) {
    kernels::add_in_place(saved.d_head_norm, dy, stream);
  }
  const Tensor d_layer = head_norm_.backward(saved.d_head_norm, saved.y, saved.y_inv_rms, stream);
  saved.d_head_norm = Tensor();
  saved.y = Tensor();
  saved.d_projected = layer_.backward_input(d_layer, saved.layer, context);
  saved.embedding.dy =
      embedding_norm_.backward(embedding_projection_.backward_input(saved.d_projected, stream),
                               saved.embedded, saved.embedded_inv_rms, stream);
  saved.embedded = Tensor();
  Tensor d_hidden =
      hidden_norm_.backward(hidden_projection_.backward_input(saved.d_projected, stream),
                            saved.hidden, saved.hidden_inv_rms, stream);
  saved.hidden = Tensor();
  return d_hidden;
}

void Mtp::backward_weight(Embedding& embedding, Saved& saved, const Context& context) {
  Stream& stream = context.stream;
  layer_.backward_weight(saved.layer, context);
  embedding_projection_.backward_weight(saved.d_projected, saved.embedded_normed, stream);
  hidden_projection_.backward_weight(saved.d_projected, saved.hidden_normed, stream);
  embedding.backward_weight(saved.embedding, context);
  saved = Saved();
}

void Mtp::for_each_parameter(const parallel::VisitParameter& visit) {
  visit(embedding_norm_.gain());
  visit(hidden_norm_.gain());
  visit(embedding_projection_.weight());
  visit(hidden_projection_.weight());
  layer_.for_each_parameter(visit);
  visit(head_norm_.gain());
}

}  // namespace fathom::model
