#pragma once

#include "core/tensor.h"
#include "kernels/cross_entropy.h"
#include "model/context.h"
#include "model/linear.h"
#include "model/options.h"

namespace fathom::model {

// logits = W_head x and the cross-entropy with the targets, the vocabulary cut over the tensor
// axis. The main model and the MTP modules share it. A rank holds the logits of one chunk of tokens
// at a time (ModelOptions::head_chunk_tokens), and in their place the gradient of these: so the
// gradients are taken in the forward, where the logits are.
class LmHead {
 public:
  LmHead(const ModelOptions& options, const parallel::Mesh& mesh);

  // Adds the masked losses of this rank's tokens to context.losses. With Pass::kTrain adds to the
  // weight's gradient and returns dL/dx, of the shape of x; else returns an undefined tensor.
  // Weights of the loss that are known before take one pass over the chunks. Those of
  // context.token_loss, for depth 0, are known once all losses are: then the gradients take a
  // second pass, which computes the logits of all chunks but one again.
  //   x  [local tokens, hidden]
  Tensor forward_backward(const Tensor& x, const Targets& targets, int depth,
                          const Context& context);

  // float32 logits [rows, vocabulary], on all tensor ranks, of the given rows of the micro-batch.
  // row_indices [rows] int32
  Tensor logits(const Tensor& x, const Tensor& row_indices, const Context& context) const;
  parallel::Parameter& weight() noexcept { return linear_.weight(); }

 private:
  struct Tokens;

  Tensor scaled_logits(const Tensor& x, const Context& context) const;
  Tensor forward_chunk(Tokens& chunk, const Context& context) const;
  Tensor repeat_chunk(const Tokens& chunk, const Context& context) const;
  kernels::CrossEntropyClasses classes_of(const Tokens& chunk) const;
  void backward_chunk(Tokens& chunk, Tensor logits, const Context& context);
  void backward_from_last(const Tokens& all, Tensor held, const Context& context);

  int class_chunks_ = 1;  // of this rank's vocabulary
  std::int64_t chunk_tokens_ = 0;
  DType logits_dtype_ = DType::kFloat32;
  DType partial_dtype_ = DType::kFloat32;
  Linear linear_;
  std::int64_t first_class_ = 0;
};

}  // namespace fathom::model
