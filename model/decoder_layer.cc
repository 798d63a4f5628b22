#include "model/decoder_layer.h"

#include <utility>

namespace fathom::model {

DecoderLayer::DecoderLayer(const std::string& prefix, const ModelOptions& options, bool is_dense,
                           const Tensor& cos_sin, const parallel::Mesh& mesh)
    : attention_norm_(prefix + "input_layernorm.weight", options.hidden_size,
                      options.rms_norm_epsilon, mesh.plane()),
      feed_forward_norm_(prefix + "post_attention_layernorm.weight", options.hidden_size,
                         options.rms_norm_epsilon, mesh.plane()),
      attention_(prefix + "self_attn.", options, cos_sin, mesh),
      feed_forward_(prefix + "mlp.", options, is_dense, mesh) {}

Tensor DecoderLayer::attend(const Tensor& x, Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  saved.x = x;
  saved.h = attention_.forward(attention_norm_.forward(x, saved.attention_inv_rms, stream),
                               saved.attention, context);
  return residual_.join_and_norm(x, saved.h, feed_forward_norm_, saved.feed_forward_inv_rms,
                                 stream);
}

Tensor DecoderLayer::forward(const Tensor& x, Saved& saved, const Context& context) const {
  Tensor branch = feed_forward_.forward(attend(x, saved, context), saved.feed_forward, context);
  Tensor y = residual_.join(saved.h, std::move(branch), context.stream);
  if (context.pass != Pass::kTrain) {
    saved = Saved();
  } else if (context.recompute.layers) {
    FeedForward::Saved feed_forward = std::move(saved.feed_forward);
    saved = Saved();
    saved.x = x;
    saved.feed_forward = std::move(feed_forward);
    saved_input(saved.feed_forward) = Tensor();
  } else if (context.recompute.norms) {
    saved.attention.x = Tensor();
    saved_input(saved.feed_forward) = Tensor();
  }
  return y;
}

Tensor DecoderLayer::backward_input(const Tensor& dy, Saved& saved, const Context& context) {
  Stream& stream = context.stream;
  Tensor& feed_forward_x = saved_input(saved.feed_forward);
  if (!saved.h.defined()) {
    const Tensor x = saved.x;
    feed_forward_x = attend(x, saved, context);
  } else if (!feed_forward_x.defined()) {
    feed_forward_x = feed_forward_norm_.forward(saved.h, saved.feed_forward_inv_rms, stream);
  }
  const Tensor dh =
      residual_.join_backward(dy, feed_forward_.backward_input(dy, saved.feed_forward, context),
                              feed_forward_norm_, saved.h, saved.feed_forward_inv_rms, stream);
  saved.h = Tensor();
  if (!saved.attention.x.defined()) {
    saved.attention.x = attention_norm_.forward(saved.x, saved.attention_inv_rms, stream);
  }
  Tensor dx = residual_.join_backward(dh, attention_.backward_input(dh, saved.attention, context),
                                      attention_norm_, saved.x, saved.attention_inv_rms, stream);
  saved.x = Tensor();
  return dx;
}

void DecoderLayer::backward_weight(Saved& saved, const Context& context) {
  feed_forward_.backward_weight(saved.feed_forward, context);
  attention_.backward_weight(saved.attention, context);
  saved = Saved();
}

void DecoderLayer::for_each_parameter(const parallel::VisitParameter& visit) {
  visit(attention_norm_.gain());
  attention_.for_each_parameter(visit);
  visit(feed_forward_norm_.gain());
  feed_forward_.for_each_parameter(visit);
}

}  // namespace fathom::model
