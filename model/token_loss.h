#pragma once

#include "core/stream.h"
#include "core/tensor.h"

namespace fathom::model {

// A loss that is a function of the log-probabilities of the targets, whose derivative is known only
// once they are: reinforcement learning; and whoever wants to see each token's loss.
class TokenLoss {
 public:
  virtual ~TokenLoss() = default;
  // Called once for each micro-batch of a pass, in order, alike on all tensor ranks of the last
  // stage.
  //   micro_batch  its number in the step
  //   losses   [num_tokens] float32: -log softmax(logits)[target], nats; 0 where the mask is 0
  //   weights  [num_tokens] float32, out: dL/dloss of each token; read in Pass::kTrain
  virtual void weigh(int micro_batch, const Tensor& losses, Tensor& weights, Stream& stream) = 0;
};

}  // namespace fathom::model
