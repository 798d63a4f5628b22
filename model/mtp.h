#pragma once

#include <string>

#include "model/decoder_layer.h"
#include "model/embedding.h"
#include "model/lm_head.h"

namespace fathom::model {

// One multi-token prediction module (DeepSeek-V3, arXiv:2412.19437, eq. 21-25), the k-th in a
// chain:
//   h'_i = M [RMSNorm(Emb(t_{i+k})) ; RMSNorm(h_i^{k-1})]
//   h^k  = RMSNorm(layer(h'))
// The shared head predicts t_{i+k+1} from h_i^k.
// The embedding comes first in the concatenation and h^0 is taken after the final norm (h^k after
// its own), as in the published weights (the paper writes them the other way round and leaves the
// norm open; docs/architecture.md). M is held as two square matrices, one per half.
class Mtp {
 public:
  struct Saved {
    Embedding::Saved embedding;
    Tensor embedded, embedded_inv_rms, embedded_normed;
    Tensor hidden, hidden_inv_rms, hidden_normed;
    DecoderLayer::Saved layer;
    Tensor y, y_inv_rms;
    Tensor d_head_norm;  // through the head; backward_input adds what comes through the next module
    Tensor d_projected;  // left by backward_input for backward_weight
  };

  // prefix: "model.layers.61."; depth from 1.
  Mtp(const std::string& prefix, int depth, const ModelOptions& options, const Tensor& cos_sin,
      const parallel::Mesh& mesh);

  // hidden [local tokens, hidden] -> h^k, input of the next module
  Tensor forward(const Tensor& hidden, const Embedding& embedding, LmHead& head, Saved& saved,
                 const Context& context) const;
  // dy: gradient of h^k from the next module, undefined for the last one. Returns the gradient of
  // `hidden`, and adds to those of the norms' gains.
  Tensor backward_input(const Tensor& dy, Saved& saved, const Context& context);
  void backward_weight(Embedding& embedding, Saved& saved, const Context& context);
  void for_each_parameter(const parallel::VisitParameter& visit);
  Moe* moe() noexcept { return layer_.moe(); }

 private:
  int depth_;
  RmsNorm embedding_norm_, hidden_norm_, head_norm_;
  Linear embedding_projection_, hidden_projection_;
  DecoderLayer layer_;
};

}  // namespace fathom::model
