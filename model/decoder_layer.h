#pragma once

#include <string>

#include "model/context.h"
#include "model/feed_forward.h"
#include "model/mla.h"
#include "model/residual.h"
#include "model/rms_norm.h"

namespace fathom::model {

// h = x + attention(norm(x));  y = h + feed_forward(norm(h))
class DecoderLayer {
 public:
  struct Saved {
    Tensor x;  // [local tokens, hidden]
    Tensor attention_inv_rms;
    Mla::Saved attention;
    Tensor h, feed_forward_inv_rms;
    FeedForward::Saved feed_forward;
  };

  // prefix: "model.layers.3."
  DecoderLayer(const std::string& prefix, const ModelOptions& options, bool is_dense,
               const Tensor& cos_sin, const parallel::Mesh& mesh);

  Tensor forward(const Tensor& x, Saved& saved, const Context& context) const;
  // Adds to the gradients of the norms' gains too.
  Tensor backward_input(const Tensor& dy, Saved& saved, const Context& context);
  void backward_weight(Saved& saved, const Context& context);
  void for_each_parameter(const parallel::VisitParameter& visit);
  const Mla& attention() const noexcept { return attention_; }
  Moe* moe() noexcept { return feed_forward_.moe(); }

 private:
  // x -> h; returns its norm.
  Tensor attend(const Tensor& x, Saved& saved, const Context& context) const;

  RmsNorm attention_norm_, feed_forward_norm_;
  Mla attention_;
  FeedForward feed_forward_;
  Residual residual_;
};

}  // namespace fathom::model
