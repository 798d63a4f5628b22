#include "model/mlp.h"

#include "core/error.h"
#include "kernels/swiglu.h"
#include "parallel/tensor_parallel.h"

namespace fathom::model {
namespace {

using parallel::gather_token_rows;
using parallel::sum_and_scatter_token_rows;

// This rank's rows of gate and of up, so that one product serves both: for each chunk of features
// its rows of gate, then those of up, so that a sum over both is cut where the features are.
parallel::Parameter gate_up_parameter(const std::string& prefix, const Shape& global_shape,
                                      int num_chunks, const parallel::Mesh& mesh) {
  parallel::Parameter parameter = parallel::row_cut_parameter(
      prefix + "gate_proj.weight", global_shape, mesh.tensor(), mesh.data());
  parallel::Piece piece = parameter.pieces[0];
  const std::int64_t first_row = piece.row_begin;
  FATHOM_CHECK(piece.num_rows % num_chunks == 0, prefix, ": ", num_chunks, " chunks of ",
               piece.num_rows, " features");
  parameter.name = prefix + "gate_up";
  parameter.shape = Shape{2 * piece.num_rows, piece.num_columns};
  parameter.pieces.clear();
  piece.num_rows /= num_chunks;
  for (int chunk = 0; chunk < num_chunks; ++chunk) {
    piece.row_begin = first_row + chunk * piece.num_rows;
    for (const char* projection : {"gate_proj.weight", "up_proj.weight"}) {
      piece.key = prefix + projection;
      parameter.pieces.push_back(piece);
      piece.local_offset += piece.numel();
    }
  }
  return parameter;
}

// [tokens, chunks * width] as [tokens * chunks, width].
Tensor by_chunk(const Tensor& x, int num_chunks) {
  return x.reshape(Shape{x.size(0) * num_chunks, x.size(1) / num_chunks});
}

}  // namespace

Mlp::Mlp(const std::string& prefix, const ModelOptions& options, std::int64_t intermediate_size,
         const parallel::Mesh& mesh)
    : num_chunks_(options.numerics.chunks_per_rank(mesh.tensor())),
      partial_dtype_(options.numerics.partial_dtype(mesh.tensor())),
      gate_up_(gate_up_parameter(prefix, Shape{intermediate_size, options.hidden_size}, num_chunks_,
                                 mesh),
               {.out = num_chunks_}),
      down_(parallel::column_cut_parameter(prefix + "down_proj.weight",
                                           Shape{options.hidden_size, intermediate_size},
                                           mesh.tensor(), mesh.data()),
            {.in = num_chunks_}) {}

Tensor Mlp::forward_gate_up(const Tensor& x, const Context& context) const {
  return gate_up_.forward(gather_token_rows(context.mesh.tensor(), x, context.stream),
                          context.stream);
}

Tensor Mlp::activate(const Tensor& gate_up, Stream& stream) const {
  Tensor activated =
      Tensor::empty(Shape{gate_up.size(0), down_.in_size()}, gate_up.dtype(), stream);
  Tensor output = by_chunk(activated, num_chunks_);
  kernels::swiglu_forward(by_chunk(gate_up, num_chunks_), output, stream);
  return activated;
}

Tensor Mlp::forward(const Tensor& x, Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  saved.x = x;
  const Tensor gate_up = forward_gate_up(x, context);
  const Tensor activated = activate(gate_up, stream);
  Tensor y = sum_and_scatter_token_rows(
      context.mesh.tensor(), down_.forward(activated, partial_dtype_, stream), x.dtype(), stream);
  if (!context.recompute.layers) {
    saved.gate_up = gate_up;
    saved.activated = context.recompute.swiglu ? Tensor() : activated;
  }
  return y;
}

Tensor Mlp::backward_input(const Tensor& dy, Saved& saved, const Context& context) const {
  Stream& stream = context.stream;
  saved.dy = gather_token_rows(context.mesh.tensor(), dy, stream);
  const Tensor d_activated = down_.backward_input(saved.dy, stream);
  if (!saved.gate_up.defined()) {
    saved.gate_up = forward_gate_up(saved.x, context);
  }
  if (!saved.activated.defined()) {
    saved.activated = activate(saved.gate_up, stream);
  }
  saved.d_gate_up = saved.gate_up;  // written in place: the inputs are not needed any more
  Tensor d_by_chunk = by_chunk(saved.d_gate_up, num_chunks_);
  kernels::swiglu_backward(by_chunk(d_activated, num_chunks_), d_by_chunk, d_by_chunk, stream);
  saved.gate_up = Tensor();
  return sum_and_scatter_token_rows(
      context.mesh.tensor(), gate_up_.backward_input(saved.d_gate_up, partial_dtype_, stream),
      dy.dtype(), stream);
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
