#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Cross-entropy whose classes are cut over tensor ranks, in four local steps with two reductions
// between them:
//   row_max = max_c logits            -> all_reduce(max)
//   logits <- exp(logits - row_max);  row_sum = sum_c logits;  target_logit = the target's logit -
//   row_max, 0 if not here
//                                     -> all_reduce(sum) of row_sum and target_logit
//   loss = log(row_sum) - target_logit where the mask is not 0, else 0
//   d_logits = weight * (p - onehot(target)), weight = dL/dloss: it may depend on the losses
//   logits   [num_tokens, num_classes] float32, on other devices than the CPU also bfloat16;
//            in-out: this rank's classes, the first of them `first_class`
//   targets  [num_tokens] int32, any value for a token of mask and weight 0
//   row_max, row_sum, target_logit, mask, loss, weights  [num_tokens] float32
// Row sums over 16 lanes and a halving tree for each chunk of classes, and a binary tree over the
// chunks (docs/numerics.md, rule 4); exp and log within 1 ulp. A class whose logit is -inf
// (padding) has probability and gradient 0. A token of mask 0 has loss 0, one of weight 0 gradient
// 0, whatever its logits. A NaN or +inf logit makes the loss and the gradient of its token NaN.
// Asynchronous on `stream`. Throws InternalError on a shape or dtype mismatch.
void cross_entropy_row_max(const Tensor& logits, Tensor& row_max, Stream& stream);
struct CrossEntropyClasses {
  const Tensor& targets;
  std::int64_t first_class = 0;
  int num_chunks = 1;  // equal parts of the classes; a power of two
};
void cross_entropy_exp_sum(Tensor& logits, const CrossEntropyClasses& classes,
                           const Tensor& row_max, Tensor& row_sum, Tensor& target_logit,
                           Stream& stream);
void cross_entropy_loss(const Tensor& row_sum, const Tensor& target_logit, const Tensor& mask,
                        Tensor& loss, Stream& stream);
struct CrossEntropyRows {
  const Tensor& targets;
  const Tensor& weights;
  const Tensor& row_sum;
};
// `logits` holds exp(logits - row_max) on entry and d_logits on return.
void cross_entropy_backward(Tensor& logits, const CrossEntropyRows& rows, std::int64_t first_class,
                            Stream& stream);

extern constinit KernelSlot<void(const Tensor&, Tensor&, Stream&)> cross_entropy_row_max_slot;
extern constinit KernelSlot<void(Tensor&, const CrossEntropyClasses&, const Tensor&, Tensor&,
                                 Tensor&, Stream&)>
    cross_entropy_exp_sum_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, const Tensor&, Tensor&, Stream&)>
    cross_entropy_loss_slot;
extern constinit KernelSlot<void(Tensor&, const CrossEntropyRows&, std::int64_t, Stream&)>
    cross_entropy_backward_slot;

}  // namespace fathom::kernels
