#pragma once

#include <cstdint>

#include "core/stream.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace fathom::kernels {

// Cross-entropy whose classes are cut over tensor ranks, in four local steps with two reductions
// between them:
//   row_max = max_c logits            -> all_reduce(max)
//   sums[0] = sum_c exp(logits - row_max);  sums[1] = the target's logit - row_max, 0 if not here
//                                     -> all_reduce(sum)
//   loss = log(sums[0]) - sums[1] where the mask is not 0, else 0
//   d_logits = weight * (p - onehot(target)), weight = dL/dloss: it may depend on the losses
//   logits   [num_tokens, num_classes] float32, on other devices than the CPU also bfloat16;
//            in-out: this rank's classes, the first of them `first_class`
//   targets  [num_tokens] int32, any value for a token of mask and weight 0
//   sums     [2, num_tokens] float32
//   row_max, mask, loss, weights  [num_tokens] float32
// What the first step leaves in `sums` and the second in `logits` is the next one's alone: a CPU,
// where exp is dear, takes it once, in the second step, and writes it over the logits; CUDA, where
// memory is, takes the sums in the first, relative to this rank's maximum (arXiv:1805.02867), and
// exp again in the last, so that the losses cost one reading of the logits; on a stream of
// SumOrder::kFixed it reads them again in the second, so that sums of chunks are relative to the
// maximum of all ranks. Where row_max and sums of all ranks are known already, the second step
// alone prepares the same logits for the last; what it then makes of `sums` means nothing. Row sums
// in a binary tree over the chunks of classes (docs/numerics.md, rule 4), on the CPU and with
// SumOrder::kFixed: a chunk's depends on nothing else, on the CPU over 16 lanes and a halving tree.
// Exp and log within 1 ulp. A class whose logit is -inf (padding) has probability and gradient 0. A
// token of mask 0 has loss 0, one of weight 0 gradient 0, whatever its logits. A NaN or +inf logit
// makes the loss and the gradient of its token NaN. Asynchronous on `stream`. Throws InternalError
// on a shape or dtype mismatch.
void cross_entropy_row_max(const Tensor& logits, Tensor& row_max, Tensor& sums, Stream& stream);
struct CrossEntropyClasses {
  const Tensor& targets;
  std::int64_t first_class = 0;
  int num_chunks = 1;  // equal parts of the classes; a power of two
};
void cross_entropy_exp_sum(Tensor& logits, const CrossEntropyClasses& classes,
                           const Tensor& row_max, Tensor& sums, Stream& stream);
void cross_entropy_loss(const Tensor& sums, const Tensor& mask, Tensor& loss, Stream& stream);
struct CrossEntropyRows {
  const Tensor& targets;
  const Tensor& weights;
  const Tensor& row_max;
  const Tensor& sums;
};
void cross_entropy_backward(Tensor& logits, const CrossEntropyRows& rows, std::int64_t first_class,
                            Stream& stream);

extern constinit KernelSlot<void(const Tensor&, Tensor&, Tensor&, Stream&)>
    cross_entropy_row_max_slot;
extern constinit KernelSlot<void(Tensor&, const CrossEntropyClasses&, const Tensor&, Tensor&,
                                 Stream&)>
    cross_entropy_exp_sum_slot;
extern constinit KernelSlot<void(const Tensor&, const Tensor&, Tensor&, Stream&)>
    cross_entropy_loss_slot;
extern constinit KernelSlot<void(Tensor&, const CrossEntropyRows&, std::int64_t, Stream&)>
    cross_entropy_backward_slot;

}  // namespace fathom::kernels
