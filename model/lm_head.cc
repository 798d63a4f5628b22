#include "model/lm_head.h"

#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/permute.h"
#include "parallel/tensor_parallel.h"

namespace fathom::model {
namespace {

// Logits and their gradients alike. By the operation of kernels::sample_tokens, so that a sampler
// and its trainer see the same bits.
void scale_logits(Tensor& logits, const Context& context) {
  if (context.logit_scale != 1.0F) {
    kernels::scale(logits, context.logit_scale, context.stream);
  }
}

}  // namespace

LmHead::LmHead(const ModelOptions& options, const parallel::Mesh& mesh)
    : num_chunks_(options.numerics.chunks_per_rank(mesh.tensor())),
      linear_(parallel::row_cut_parameter("lm_head.weight",
                                          Shape{options.vocab_size, options.hidden_size},
                                          mesh.tensor(), mesh.data()),
              {.out = num_chunks_}),
      first_class_(linear_.weight().pieces[0].row_begin) {}

void LmHead::forward(const Tensor& x, const Targets& targets, int depth, Saved& saved,
                     const Context& context) const {
  Stream& stream = context.stream;
  parallel::Communicator& tensor = context.mesh.tensor();
  const Tensor all = parallel::gather_token_rows(tensor, x, stream);
  const std::int64_t num_tokens = all.size(0);
  Tensor logits = scaled_logits(all, context);

  Tensor row_max = Tensor::empty(Shape{num_tokens}, DType::kFloat32, stream);
  kernels::cross_entropy_row_max(logits, row_max, stream);
  tensor.all_reduce(row_max, parallel::ReduceOp::kMax, stream).wait();
  // Both sums in one array, so that one reduction serves them.
  Tensor sums = Tensor::empty(Shape{2, num_tokens}, DType::kFloat32, stream);
  Tensor row_sum = sums.narrow(0, 1).reshape(Shape{num_tokens});
  Tensor target_logit = sums.narrow(1, 2).reshape(Shape{num_tokens});
  kernels::cross_entropy_exp_sum(logits, {targets.ids, first_class_, num_chunks_}, row_max, row_sum,
                                 target_logit, stream);
  tensor.all_reduce(sums, parallel::ReduceOp::kSum, stream).wait();

  Tensor loss = Tensor::empty(Shape{num_tokens}, DType::kFloat32, stream);
  kernels::cross_entropy_loss(row_sum, target_logit, targets.mask, loss, stream);
  // Each tensor rank counts its own tokens: every token is counted once.
  context.losses->add_token_losses(depth, context.local(loss));
  Tensor weights = targets.weights;
  if (context.token_loss != nullptr && depth == 0) {
    weights = Tensor::empty(Shape{num_tokens}, DType::kFloat32, stream);
    context.token_loss->weigh(context.micro_batch, loss, weights, stream);
  }
  if (context.pass == Pass::kTrain) {
    kernels::cross_entropy_backward(logits, {targets.ids, weights, row_sum}, first_class_, stream);
    scale_logits(logits, context);
    saved.x = all;
    saved.d_logits = logits;
  }
}

Tensor LmHead::scaled_logits(const Tensor& x, const Context& context) const {
  Tensor logits = linear_.forward(x, context.stream);
  scale_logits(logits, context);
  return logits;
}

Tensor LmHead::backward_input(Saved& saved, const Context& context) const {
  return parallel::sum_and_scatter_token_rows(
      context.mesh.tensor(), linear_.backward_input(saved.d_logits, context.stream),
      context.stream);
}

void LmHead::backward_weight(Saved& saved, const Context& context) {
  linear_.backward_weight(saved.d_logits, saved.x, context.stream);
  saved = Saved();
}

Tensor LmHead::logits(const Tensor& x, const Tensor& row_indices, const Context& context) const {
  Stream& stream = context.stream;
  parallel::Communicator& tensor = context.mesh.tensor();
  const Tensor all = parallel::gather_token_rows(tensor, x, stream);
  Tensor rows = Tensor::empty(Shape{row_indices.size(0), all.size(1)}, all.dtype(), stream);
  kernels::gather_rows(all, row_indices, rows, stream);
  Tensor part = linear_.forward(rows, DType::kFloat32, stream);
  const int ranks = tensor.world_size();
  if (ranks == 1) {
    return part;  // spares two copies
  }
  const std::int64_t width = part.size(1);
  Tensor parts = Tensor::empty(Shape{ranks * part.size(0), width}, DType::kFloat32, stream);
  tensor.all_gather(part, parts, stream).wait();
  Tensor full = Tensor::empty(Shape{part.size(0), width * ranks}, DType::kFloat32, stream);
  for (int rank = 0; rank < ranks; ++rank) {
    kernels::copy_columns(parts.narrow(rank * part.size(0), (rank + 1) * part.size(0)), 0, full,
                          static_cast<int>(rank * width), static_cast<int>(width), stream);
  }
  return full;
}

}  // namespace fathom::model
