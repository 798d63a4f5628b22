#pragma once

#include "core/tensor.h"
#include "model/context.h"
#include "model/linear.h"
#include "model/options.h"

namespace fathom::model {

// logits = W_head x and the cross-entropy with the targets, the vocabulary cut over the tensor
// axis; no rank ever holds all logits of a token. The main model and the MTP modules share it.
class LmHead {
 public:
  struct Saved {
    Tensor x;         // [all tokens, hidden]
    Tensor d_logits;  // [all tokens, local vocabulary]
  };

  LmHead(const ModelOptions& options, const parallel::Mesh& mesh);

  // x [local tokens, hidden]. Adds the masked losses of this rank's tokens to context.losses; with
  // Pass::kTrain keeps dL/dlogits, since every weight of the loss is known before, or by
  // context.token_loss once the losses of depth 0 are.
  void forward(const Tensor& x, const Targets& targets, int depth, Saved& saved,
               const Context& context) const;
  Tensor backward_input(Saved& saved, const Context& context) const;
  void backward_weight(Saved& saved, const Context& context);

  // float32 logits [rows, vocabulary], on all tensor ranks, of the given rows of the micro-batch.
  // row_indices [rows] int32
  Tensor logits(const Tensor& x, const Tensor& row_indices, const Context& context) const;
  parallel::Parameter& weight() noexcept { return linear_.weight(); }

 private:
  Tensor scaled_logits(const Tensor& x, const Context& context) const;

  int num_chunks_ = 1;  // of this rank's vocabulary
  Linear linear_;
  std::int64_t first_class_ = 0;
};

}  // namespace fathom::model
