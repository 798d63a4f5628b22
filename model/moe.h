#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/tensor.h"
#include "kernels/router.h"
#include "model/balance_loss.h"
#include "model/context.h"
#include "model/linear.h"
#include "model/mlp.h"
#include "model/options.h"
#include "parallel/expert_parallel.h"
#include "parallel/parameter.h"
#include "parallel/state_visitor.h"

namespace fathom::model {

// A mixture of experts (DeepSeek-V3, arXiv:2412.19437, section 2.1.2; DeepSeekMoE,
// arXiv:2401.06066):
//   y = Shared(x) + sum over the chosen experts, in ascending order, of g_i Expert_i(x)
// Dropless. Experts are whole and spread over the expert axis, which re-cuts data x tensor; the
// router runs where the token lives. While rows are under way the shared expert works.
class Moe {
 public:
  struct Saved {
    Tensor x;  // [local tokens, hidden]; may be taken away and given back by the caller
    Mlp::Saved shared;
    Tensor expert_ids, scores, gates;  // the latter two undefined with recompute.layers
    BalanceLoss::Saved balance;
    parallel::ExpertRoute route;
    // Undefined where the experts' forward is computed again; activated alone with
    // recompute.swiglu.
    Tensor expert_x;   // [expert rows, hidden]
    Tensor gate_up;    // [expert rows, 2 * intermediate]
    Tensor activated;  // [expert rows, intermediate]
    Tensor home_y;     // [home rows, hidden]: the experts' answers, back home
    // Left by backward_input for backward_weight.
    Tensor d_logits, d_expert_y, d_gate_up;
  };

  Moe(const std::string& prefix, const ModelOptions& options, const parallel::Mesh& mesh);

  Tensor forward(const Tensor& x, Saved& saved, const Context& context) const;
  Tensor backward_input(const Tensor& dy, Saved& saved, const Context& context) const;
  void backward_weight(Saved& saved, const Context& context);
  void for_each_parameter(const parallel::VisitParameter& visit);

  // Slots that chose each expert since the last reset, on this rank's tokens: [num_experts] int64.
  Tensor& expert_counts() noexcept { return expert_counts_; }
  // b <- b + rate * sign(mean load - load) with the loads of the whole global batch; integers
  // decide the sign (eq. 16 and below).
  void update_selection_bias(std::span<const std::int64_t> loads, float rate, Stream& stream);
  // The selection bias: a state without gradient, the same on all ranks of the plane.
  void visit_state(parallel::StateVisitor& visitor, bool is_owner);
  void allocate_state(Stream& stream);

 private:
  void choose_experts(Saved& saved, const Context& context) const;
  void score_experts(const kernels::RouterOptions& router, Saved& saved, Stream& stream) const;
  Tensor forward_meanwhile(Saved& saved, const Context& context) const;
  Tensor apply_experts(Saved& saved, Stream& stream) const;
  Tensor backward_combination(const Tensor& dy, Saved& saved, Tensor& d_gates,
                              const Context& context) const;
  Tensor backward_with_experts_again(const Tensor& dy, Saved& saved, Tensor& d_gates,
                                     const Context& context) const;
  Tensor backward_meanwhile(const Tensor& dy, Saved& saved, const Context& context) const;
  parallel::MovingRows backward_experts(Saved& saved, const Context& context) const;
  kernels::RouterOptions router_options(const Context& context) const;

  MoeOptions options_;
  std::int64_t unit_tokens_ = 0;
  std::string prefix_;
  std::int64_t hidden_size_ = 0;
  std::int64_t local_experts_ = 0;
  Linear router_;
  Mlp shared_;
  BalanceLoss balance_;
  parallel::Parameter experts_gate_up_;  // [local experts * 2 * intermediate, hidden]
  parallel::Parameter experts_down_;     // [local experts * hidden, intermediate]
  Tensor selection_bias_;                // [num_experts] float32
  mutable Tensor expert_counts_;         // [num_experts] int64
};

}  // namespace fathom::model
