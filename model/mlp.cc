#include "model/mlp.h"

#include "core/error.h"
#include "kernels/swiglu.h"
#include "parallel/tensor_parallel.h"

namespace fathom::model {
namespace {

using parallel::gather_token_rows;
using parallel::sum_and_scatter_token_rows;

// This rank's rows of gate and of up, one block after the other, so that one product serves both.
parallel::Parameter gate_up_parameter(const std::string& prefix, const Shape& global_shape,
                                      const parallel::Mesh& mesh) {
  parallel::Parameter gate = parallel::row_cut_parameter(prefix + "gate_proj.weight", global_shape,
                                                         mesh.tensor(), mesh.data());
  const parallel::Parameter up = parallel::row_cut_parameter(
      prefix + "up_proj.weight", global_shape, mesh.tensor(), mesh.data());
  parallel::Piece up_piece = up.pieces[0];
  up_piece.local_offset = gate.shape.numel();
  gate.pieces.push_back(up_piece);
  gate.name = prefix + "gate_up";
  gate.shape = Shape{2 * gate.shape[0], gate.shape[1]};
  return gate;
}

}  // namespace

Mlp::Mlp(const std::string& prefix, std::int64_t hidden_size, std::int64_t intermediate_size,
         const parallel::Mesh& mesh)
    : gate_up_(gate_up_parameter(prefix, Shape{intermediate_size, hidden_size}, mesh)),
      down_(parallel::column_cut_parameter(prefix + "down_proj.weight",
                                           Shape{hidden_size, intermediate_size}, mesh.tensor(),
                                           mesh.data())) {}

Tensor Mlp::forward(const Tensor& x, Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  saved.x = x;
  saved.gate_up = gate_up_.forward(gather_token_rows(context.mesh.tensor(), x, stream), stream);
  Tensor activated =
      Tensor::empty(Shape{saved.gate_up.size(0), down_.in_size()}, DType::kFloat32, stream);
  kernels::swiglu_forward(saved.gate_up, activated, stream);
  Tensor y =
      sum_and_scatter_token_rows(context.mesh.tensor(), down_.forward(activated, stream), stream);
  if (!context.recompute.swiglu) {
    saved.activated = activated;
  }
  return y;
}

Tensor Mlp::backward_input(const Tensor& dy, Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  saved.dy = gather_token_rows(context.mesh.tensor(), dy, stream);
  const Tensor d_activated = down_.backward_input(saved.dy, stream);
  if (!saved.activated.defined()) {
    saved.activated = Tensor::empty(d_activated.shape(), DType::kFloat32, stream);
    kernels::swiglu_forward(saved.gate_up, saved.activated, stream);
  }
  saved.d_gate_up = saved.gate_up;  // written in place: the inputs are not needed any more
  kernels::swiglu_backward(d_activated, saved.gate_up, saved.d_gate_up, stream);
  saved.gate_up = Tensor();
  return sum_and_scatter_token_rows(context.mesh.tensor(),
                                    gate_up_.backward_input(saved.d_gate_up, stream), stream);
}

void Mlp::backward_weight(Saved& saved, const Context& context) {
  Stream& stream = context.stream;
  down_.backward_weight(saved.dy, saved.activated, stream);
  gate_up_.backward_weight(saved.d_gate_up,
                           gather_token_rows(context.mesh.tensor(), saved.x, stream), stream);
  saved = Saved();
}

void Mlp::for_each_parameter(const parallel::VisitParameter& visit) {
  visit(gate_up_.weight());
  visit(down_.weight());
}

}  // namespace fathom::model
