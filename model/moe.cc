#include "model/moe.h"

#include "core/error.h"
#include "core/host_copy.h"
#include "kernels/elementwise.h"
#include "kernels/grouped_matmul.h"
#include "kernels/packed_matmul.h"
#include "kernels/permute.h"
#include "kernels/swiglu.h"

namespace fathom::model {
namespace {

// The matrices `projections` of every local expert, one expert after the other, under their
// published names.
parallel::Parameter expert_parameter(const std::string& prefix,
                                     const std::vector<std::string>& projections,
                                     const Shape& global_shape, std::int64_t num_experts,
                                     const parallel::Mesh& mesh) {
  const parallel::Communicator& expert = mesh.expert();
  if (num_experts % expert.world_size() != 0) {
    throw ConfigError(concat("mesh.expert (", expert.world_size(),
                             ") does not divide model.moe.num_experts (", num_experts, ")"));
  }
  const std::int64_t local = num_experts / expert.world_size();
  parallel::Parameter parameter;
  parameter.name = prefix + "experts." + projections[0];
  parameter.replicas = &mesh.expert_data();
  parameter.num_matrices = local;
  parameter.shape = Shape{local * static_cast<std::int64_t>(projections.size()) * global_shape[0],
                          global_shape[1]};
  std::int64_t offset = 0;
  for (std::int64_t i = expert.rank() * local; i < (expert.rank() + 1) * local; ++i) {
    for (const std::string& projection : projections) {
      parameter.pieces.push_back({concat(prefix, "experts.", i, ".", projection, ".weight"),
                                  global_shape, 0, global_shape[0], 0, global_shape[1], offset});
      offset += global_shape.numel();
    }
  }
  return parameter;
}

// A row for each slot, sorted by expert. x has a row for each `slots_of_row` slots: top_k where its
// rows are tokens, 1 where they are slots.
Tensor home_rows(const parallel::ExpertRoute& route, const Tensor& x, int slots_of_row,
                 Stream& stream) {
  Tensor rows = Tensor::empty(Shape{route.num_home_rows, x.size(1)}, x.dtype(), stream);
  kernels::permute_forward(x, route.slot_of_row, slots_of_row, rows, stream);
  return rows;
}

// y = x W^T with the matrix of each row's expert.
void expert_products(const Tensor& x, const parallel::Parameter& weights, const Tensor& offsets,
                     Tensor& y, Stream& stream) {
  const std::int64_t num_experts = weights.num_matrices;
  if (weights.packed.defined() && x.size(0) <= kernels::kMaxPackedRows * num_experts) {
    const Shape shape = kernels::packed_shape(Shape{num_experts, y.size(1), x.size(1)});
    kernels::packed_grouped_matmul_forward(x, weights.packed.reshape(shape), offsets, y, stream);
  } else {
    kernels::grouped_matmul_forward(
        x, weights.value().reshape(Shape{num_experts, y.size(1), x.size(1)}), offsets, y, stream);
  }
}

// dW += dy^T x of each expert.
void backward_expert_weight(const Tensor& dy, const Tensor& x, const parallel::ExpertRoute& route,
                            parallel::Parameter& weights, Stream& stream) {
  kernels::GradientSum dw =
      weights.grad.reshape(Shape{weights.num_matrices, dy.size(1), x.size(1)});
  kernels::grouped_matmul_backward_weight(dy, x, route.part_offsets, dw, stream);
  weights.grad.is_empty = dw.is_empty;
}

}  // namespace

Moe::Moe(const std::string& prefix, const ModelOptions& options, const parallel::Mesh& mesh)
    : options_(options.moe),
      unit_tokens_(options.numerics.gradients.unit_tokens),
      prefix_(prefix),
      hidden_size_(options.hidden_size),
      local_experts_(options.moe.num_experts / mesh.expert().world_size()),
      router_(parallel::whole_parameter(prefix + "gate.weight",
                                        Shape{options.moe.num_experts, options.hidden_size},
                                        mesh.plane())),
      balance_(options.moe),
      experts_gate_up_(expert_parameter(prefix, {"gate_proj", "up_proj"},
                                        Shape{options.moe.intermediate_size, options.hidden_size},
                                        options.moe.num_experts, mesh)),
      experts_down_(expert_parameter(prefix, {"down_proj"},
                                     Shape{options.hidden_size, options.moe.intermediate_size},
                                     options.moe.num_experts, mesh)) {
  if (options_.num_shared_experts > 0) {
    shared_ = Mlp(prefix + "shared_experts.", options,
                  std::int64_t{options_.num_shared_experts} * options_.intermediate_size, mesh);
  }
}

void Moe::allocate_state(Stream& stream) {
  selection_bias_ = Tensor::zeros(Shape{options_.num_experts}, DType::kFloat32, stream);
  expert_counts_ = Tensor::zeros(Shape{options_.num_experts}, DType::kInt64, stream);
}

kernels::RouterOptions Moe::router_options(const Context& context) const {
  kernels::RouterOptions router;
  router.score = options_.score;
  router.group_score = options_.group_score;
  router.num_experts = options_.num_experts;
  router.top_k = options_.top_k;
  router.num_groups = options_.num_groups;
  router.num_kept_groups = options_.num_kept_groups;
  router.normalize_gates = options_.normalize_gates;
  router.gate_scale = options_.gate_scale;
  router.forced_balance = options_.forced_balance;
  router.first_token = context.batch.first_token + context.local_first();
  router.keeps_choice = context.routing != nullptr && context.routing->is_complete();
  return router;
}

Tensor Moe::forward(const Tensor& x, Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  parallel::Communicator& expert = context.mesh.expert();
  saved.x = x;
  choose_experts(saved, context);
  parallel::MovingRows moving = parallel::send_to_experts(
      saved.route, home_rows(saved.route, x, options_.top_k, stream), expert, stream);
  Tensor y = forward_meanwhile(saved, context);
  saved.expert_x = parallel::rows_by_expert(saved.route, moving.wait(), stream);
  Tensor expert_y = apply_experts(saved, stream);
  const bool keeps_experts = context.pass == Pass::kTrain && context.recompute.keeps_experts();
  if (!keeps_experts) {
    saved.expert_x = Tensor();
    saved.gate_up = Tensor();
  }
  if (!keeps_experts || context.recompute.swiglu) {
    saved.activated = Tensor();
  }
  expert_y = parallel::rows_by_arrival(saved.route, expert_y, stream);
  const Tensor home_y = parallel::return_from_experts(saved.route, expert_y, expert, stream).wait();
  kernels::combine_forward(home_y, saved.route.row_of_slot, saved.gates, y, stream);
  if (keeps_experts) {
    saved.home_y = home_y;
  }
  if (context.recompute.layers) {
    saved.scores = Tensor();
    saved.gates = Tensor();
  }
  return y;
}

// x -> scores, experts, gates and the route to the experts.
void Moe::choose_experts(Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  const kernels::RouterOptions router = router_options(context);
  saved.expert_ids = router.keeps_choice ? context.routing->experts(prefix_, context.micro_batch)
                                         : Tensor::empty(Shape{saved.x.size(0), options_.top_k},
                                                         DType::kInt32, stream);
  score_experts(router, saved, stream);
  if (context.routing != nullptr && !router.keeps_choice) {
    context.routing->keep(prefix_, context.micro_batch, saved.expert_ids);
  }
  if (context.pass == Pass::kTrain) {
    kernels::count_experts(saved.expert_ids, expert_counts_, stream);
  }
  saved.route =
      parallel::plan_expert_route(saved.expert_ids,
                                  {.num_experts = options_.num_experts,
                                   // Only gradients come in units.
                                   .unit_tokens = context.pass == Pass::kTrain ? unit_tokens_ : 0,
                                   .assumed_imbalance = context.assumed_imbalance},
                                  context.mesh.expert(), stream);
}

void Moe::score_experts(const kernels::RouterOptions& router, Saved& saved, Stream& stream) const {
  const Tensor logits = router_.forward(saved.x, DType::kFloat32, stream);
  saved.scores = Tensor::empty(logits.shape(), DType::kFloat32, stream);
  saved.gates = Tensor::empty(saved.expert_ids.shape(), DType::kFloat32, stream);
  kernels::router_forward(router, logits, selection_bias_, saved.scores, saved.expert_ids,
                          saved.gates, stream);
}

// What need not wait for the rows that are under way: the balance losses, and the shared expert,
// whose output is returned, zeros without one.
Tensor Moe::forward_meanwhile(Saved& saved, const Context& context) const {
  balance_.forward(router_options(context), saved.scores, saved.expert_ids, saved.balance, context);
  if (options_.num_shared_experts > 0) {
    Tensor y = shared_.forward(saved.x, saved.shared, context);
    saved.shared.x = Tensor();  // the same as saved.x
    return y;
  }
  Tensor y = Tensor::empty(saved.x.shape(), saved.x.dtype(), context.stream);
  kernels::fill(y, 0.0F, context.stream);
  return y;
}

// expert_x -> the experts' answers.
Tensor Moe::apply_experts(Saved& saved, Stream& stream) const {
  const std::int64_t rows = saved.route.num_expert_rows;
  const std::int64_t width = options_.intermediate_size;
  const DType dtype = saved.expert_x.dtype();
  saved.gate_up = Tensor::empty(Shape{rows, 2 * width}, dtype, stream);
  expert_products(saved.expert_x, experts_gate_up_, saved.route.offsets, saved.gate_up, stream);
  saved.activated = Tensor::empty(Shape{rows, width}, dtype, stream);
  kernels::swiglu_forward(saved.gate_up, saved.activated, stream);
  Tensor y = Tensor::empty(Shape{rows, hidden_size_}, dtype, stream);
  expert_products(saved.activated, experts_down_, saved.route.offsets, y, stream);
  return y;
}

Tensor Moe::backward_input(const Tensor& dy, Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  kernels::RouterOptions router = router_options(context);
  if (!saved.scores.defined()) {
    router.keeps_choice = true;
    score_experts(router, saved, stream);
  }
  Tensor d_gates = Tensor::empty(saved.gates.shape(), DType::kFloat32, stream);
  Tensor dx = saved.home_y.defined() ? backward_combination(dy, saved, d_gates, context)
                                     : backward_with_experts_again(dy, saved, d_gates, context);
  parallel::MovingRows d_home_x = backward_experts(saved, context);
  Tensor d_scores = Tensor::empty(saved.scores.shape(), DType::kFloat32, stream);
  balance_.backward(router, saved.scores, saved.balance, d_scores, context);
  saved.d_logits = Tensor::empty(saved.scores.shape(), DType::kFloat32, stream);
  kernels::router_backward(router, saved.scores, saved.expert_ids, d_gates, d_scores,
                           saved.d_logits, stream);
  kernels::permute_backward(d_home_x.wait(), saved.route.row_of_slot, dx,
                            options_.num_shared_experts > 0, stream);
  router_.backward_input(saved.d_logits, dx, kernels::Accumulate::kAdd, stream);
  return dx;
}

// dy -> d_gates, and d_expert_y where the experts are. Returns dx of the shared expert, which works
// while rows are under way; without one, memory for dx.
Tensor Moe::backward_combination(const Tensor& dy, Saved& saved, Tensor& d_gates,
                                 const Context& context) const {
  Stream& stream = context.stream;
  Tensor d_home_y = Tensor::empty(saved.home_y.shape(), dy.dtype(), stream);
  kernels::combine_backward(dy, saved.home_y, saved.route.row_of_slot, saved.gates, d_home_y,
                            d_gates, stream);
  saved.home_y = Tensor();
  parallel::MovingRows moving =
      parallel::send_to_experts(saved.route, d_home_y, context.mesh.expert(), stream);
  d_home_y = Tensor();
  Tensor dx = backward_meanwhile(dy, saved, context);
  saved.d_expert_y = parallel::rows_by_expert(saved.route, moving.wait(), stream);
  return dx;
}

// The same where nothing is left of the experts' forward: they compute it again. Their answers do
// not travel home once more to meet dy and the gates. dy goes to the experts in place of its gated
// rows, and the gates beside it: one exchange of rows less, and the products do not wait for it.
Tensor Moe::backward_with_experts_again(const Tensor& dy, Saved& saved, Tensor& d_gates,
                                        const Context& context) const {
  Stream& stream = context.stream;
  parallel::Communicator& expert = context.mesh.expert();
  const parallel::ExpertRoute& route = saved.route;
  if (expert.world_size() == 1) {  // the answers are home
    saved.expert_x = home_rows(route, saved.x, options_.top_k, stream);
    saved.home_y = apply_experts(saved, stream);
    return backward_combination(dy, saved, d_gates, context);
  }
  const Shape by_slot{saved.gates.numel(), 1};
  const auto send = [&](const Tensor& x, int slots_of_row) {
    return parallel::send_to_experts(route, home_rows(route, x, slots_of_row, stream), expert,
                                     stream);
  };
  parallel::MovingRows moving_x = send(saved.x, options_.top_k);
  parallel::MovingRows moving_gates = send(saved.gates.reshape(by_slot), 1);
  parallel::MovingRows moving_dy = send(dy, options_.top_k);
  Tensor dx = backward_meanwhile(dy, saved, context);
  saved.expert_x = parallel::rows_by_expert(route, moving_x.wait(), stream);
  const Tensor y = apply_experts(saved, stream);

  // A row that arrived is a token with one slot.
  saved.d_expert_y = Tensor::empty(y.shape(), dy.dtype(), stream);
  Tensor d_arrived_gates = Tensor::empty(Shape{y.size(0), 1}, DType::kFloat32, stream);
  const Tensor arrived_gates = moving_gates.wait();
  kernels::combine_backward(moving_dy.wait(), y, route.row_of_arrival, arrived_gates,
                            saved.d_expert_y, d_arrived_gates, stream);
  const Tensor d_home_gates =
      parallel::return_from_experts(route, d_arrived_gates, expert, stream).wait();
  Tensor d_gates_by_slot = d_gates.reshape(by_slot);
  kernels::gather_rows(d_home_gates, route.row_of_slot, d_gates_by_slot, stream);
  return dx;
}

Tensor Moe::backward_meanwhile(const Tensor& dy, Saved& saved, const Context& context) const {
  if (options_.num_shared_experts == 0) {
    return Tensor::empty(dy.shape(), dy.dtype(), context.stream);
  }
  saved.shared.x = saved.x;
  return shared_.backward_input(dy, saved.shared, context);
}

// d_expert_y -> gradient of the home rows, on its way.
parallel::MovingRows Moe::backward_experts(Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  const std::int64_t rows = saved.route.num_expert_rows;
  const std::int64_t width = options_.intermediate_size;
  const DType dtype = saved.d_expert_y.dtype();
  Tensor d_activated = Tensor::empty(Shape{rows, width}, dtype, stream);
  kernels::grouped_matmul_backward_input(
      saved.d_expert_y, experts_down_.value().reshape(Shape{local_experts_, hidden_size_, width}),
      saved.route.offsets, d_activated, stream);
  if (!saved.activated.defined()) {
    saved.activated = Tensor::empty(d_activated.shape(), dtype, stream);
    kernels::swiglu_forward(saved.gate_up, saved.activated, stream);
  }
  saved.d_gate_up = saved.gate_up;  // written in place: the inputs are not needed any more
  kernels::swiglu_backward(d_activated, saved.gate_up, saved.d_gate_up, stream);
  saved.gate_up = Tensor();
  Tensor d_expert_x = Tensor::empty(Shape{rows, hidden_size_}, dtype, stream);
  kernels::grouped_matmul_backward_input(
      saved.d_gate_up,
      experts_gate_up_.value().reshape(Shape{local_experts_, 2 * width, hidden_size_}),
      saved.route.offsets, d_expert_x, stream);
  d_expert_x = parallel::rows_by_arrival(saved.route, d_expert_x, stream);
  return parallel::return_from_experts(saved.route, d_expert_x, context.mesh.expert(), stream);
}

void Moe::backward_weight(Saved& saved, const Context& context) {
  Stream& stream = context.stream;
  backward_expert_weight(saved.d_expert_y, saved.activated, saved.route, experts_down_, stream);
  backward_expert_weight(saved.d_gate_up, saved.expert_x, saved.route, experts_gate_up_, stream);
  router_.backward_weight(saved.d_logits, saved.x, stream);
  if (options_.num_shared_experts > 0) {
    shared_.backward_weight(saved.shared, context);
  }
  saved = Saved();
}

void Moe::for_each_parameter(const parallel::VisitParameter& visit) {
  visit(router_.weight());
  visit(experts_gate_up_);
  visit(experts_down_);
  if (options_.num_shared_experts > 0) {
    shared_.for_each_parameter(visit);
  }
}

void Moe::update_selection_bias(std::span<const std::int64_t> loads, float rate, Stream& stream) {
  if (!options_.has_selection_bias || rate == 0.0F) {
    return;
  }
  std::vector<float> changes;
  std::int64_t total = 0;
  for (const std::int64_t load : loads) {
    total += load;
  }
  for (const std::int64_t load : loads) {
    const std::int64_t scaled = load * options_.num_experts;
    changes.push_back(scaled < total ? rate : scaled > total ? -rate : 0.0F);
  }
  Tensor added = Tensor::empty(selection_bias_.shape(), DType::kFloat32, stream);
  from_host<float>(changes, added, stream);
  kernels::add_in_place(selection_bias_, added, stream);
}

void Moe::visit_state(parallel::StateVisitor& visitor, bool is_owner) {
  if (!options_.has_selection_bias) {
    return;
  }
  parallel::StateSlice slice;
  slice.key = prefix_ + "gate.e_score_correction_bias";
  slice.global_shape = Shape{options_.num_experts};
  slice.num_rows = 1;
  slice.num_columns = options_.num_experts;
  slice.is_owner = is_owner;
  visitor.tensor(slice, selection_bias_);
}

}  // namespace fathom::model
