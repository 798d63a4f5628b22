#pragma once

#include "core/tensor.h"
#include "kernels/router.h"
#include "model/context.h"
#include "model/options.h"

namespace fathom::model {

// The losses that keep experts evenly loaded, each per sequence of T tokens and averaged over the
// sequences of the global batch:
//   sequence       (V3, arXiv:2412.19437, eq. 17-20)  a sum_i f_i P_i
//                  f_i = N / (K T) #{t: i in top K of the unbiased s_t}
//                  P_i = mean_t s'_ti
//   expert         (V2, arXiv:2405.04434, eq. 23-25)  the same with the router's real choice in f_i
//   device         (V2, eq. 26-28)  a sum_d f'_d P'_d
//                  f'_d = mean of the expert loss's f_i over the experts i of group d
//                  P'_d = sum of their P_i
//   communication  (V2, eq. 29-31)  a sum_d f''_d P'_d
//                  f''_d = D / (M T) #{t: a slot of t in group d}
// a is the loss's coefficient; K of N experts are chosen, from at most M of D groups; s' as in
// kernels/router.h. f is a constant in the backward. Statistics belong to a sequence, never to a
// rank: they are summed over the tensor axis.
class BalanceLoss {
 public:
  struct Saved {
    Tensor coefficient;  // [num_sequences, num_experts]: dL/ds'; undefined when no loss is on
  };

  BalanceLoss() = default;
  explicit BalanceLoss(const MoeOptions& options);

  // Adds the losses to context.losses.
  void forward(const kernels::RouterOptions& router, const Tensor& scores, const Tensor& expert_ids,
               Saved& saved, const Context& context) const;
  // d_scores [local tokens, num_experts]: overwritten
  void backward(const kernels::RouterOptions& router, const Tensor& scores, const Saved& saved,
                Tensor& d_scores, const Context& context) const;

 private:
  bool is_on() const noexcept;
  MoeOptions options_;
};

}  // namespace fathom::model
