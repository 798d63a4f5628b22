#include "model/lm_head.h"

#include <algorithm>
#include <utility>

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

// The most tokens that a chunk may have, in whole units of tokens in which gradients are summed, so
// that a unit stays one contribution.
std::int64_t tokens_of_chunk(const ModelOptions& options) {
  const std::int64_t unit = std::max<std::int64_t>(1, options.numerics.gradients.unit_tokens);
  return std::max(unit, options.head_chunk_tokens / unit * unit);
}

}  // namespace

// What there is of the tokens of a micro-batch, or of a chunk of them, on this rank.
struct LmHead::Tokens {
  Tensor x;  // [tokens, hidden]
  Targets targets;
  Tensor row_max, loss;  // [tokens]
  Tensor sums;           // of the cross-entropy, [2, tokens]; chunk by chunk
  Tensor dx;             // [tokens, hidden]; undefined where there are no gradients

  std::int64_t size() const { return x.size(0); }

  static Tokens of(const Tensor& x, const Targets& targets, DType dx_dtype,
                   const Context& context) {
    const Shape per_token{x.size(0)};
    const auto floats = [&](const Shape& shape) {
      return Tensor::empty(shape, DType::kFloat32, context.stream);
    };
    Tensor dx;
    if (context.pass == Pass::kTrain) {
      dx = Tensor::empty(x.shape(), dx_dtype, context.stream);
    }
    return {x, targets, floats(per_token), floats(per_token), floats(Shape{2, x.size(0)}), dx};
  }

  Tokens chunk(std::int64_t begin, std::int64_t end) const {
    const auto rows = [&](const Tensor& tensor) {
      return tensor.defined() ? tensor.narrow(begin, end) : Tensor();
    };
    return {
        rows(x),    {rows(targets.ids), rows(targets.weights), rows(targets.mask)}, rows(row_max),
        rows(loss), sums.view_elements(2 * begin, Shape{2, end - begin}),           rows(dx)};
  }
};

LmHead::LmHead(const ModelOptions& options, const parallel::Mesh& mesh)
    : class_chunks_(options.numerics.chunks_per_rank(mesh.tensor())),
      chunk_tokens_(tokens_of_chunk(options)),
      logits_dtype_(options.numerics.sum_dtype()),
      partial_dtype_(options.numerics.partial_dtype(mesh.tensor())),
      linear_(parallel::row_cut_parameter("lm_head.weight",
                                          Shape{options.vocab_size, options.hidden_size},
                                          mesh.tensor(), mesh.data()),
              {.out = class_chunks_}),
      first_class_(linear_.weight().pieces[0].row_begin) {}

Tensor LmHead::forward_backward(const Tensor& x, const Targets& targets, int depth,
                                const Context& context) {
  Stream& stream = context.stream;
  parallel::Communicator& tensor = context.mesh.tensor();
  Tokens all =
      Tokens::of(parallel::gather_token_rows(tensor, x, stream), targets, partial_dtype_, context);
  const bool has_gradients = all.dx.defined();
  TokenLoss* const token_loss = depth == 0 ? context.token_loss : nullptr;
  Tensor held;  // of the chunk that was last worked on
  for (std::int64_t begin = 0; begin < all.size(); begin += chunk_tokens_) {
    Tokens chunk = all.chunk(begin, std::min(begin + chunk_tokens_, all.size()));
    held = Tensor();  // its memory serves this chunk
    held = forward_chunk(chunk, context);
    if (has_gradients && token_loss == nullptr) {
      backward_chunk(chunk, held, context);
    }
  }
  // Each tensor rank counts its own tokens: every token is counted once.
  context.losses->add_token_losses(depth, context.local(all.loss));
  if (token_loss != nullptr) {
    all.targets.weights = Tensor::empty(all.loss.shape(), DType::kFloat32, stream);
    token_loss->weigh(context.micro_batch, all.loss, all.targets.weights, stream);
  }
  if (!has_gradients) {
    return Tensor();
  }
  if (token_loss != nullptr) {
    backward_from_last(all, std::move(held), context);
  }
  return parallel::sum_and_scatter_token_rows(tensor, all.dx, x.dtype(), stream);
}

// The gradients of all chunks, from the last one on, whose logits are still there.
void LmHead::backward_from_last(const Tokens& all, Tensor held, const Context& context) {
  for (std::int64_t end = all.size(); end > 0;) {
    const std::int64_t begin = (end - 1) / chunk_tokens_ * chunk_tokens_;
    Tokens chunk = all.chunk(begin, end);
    if (!held.defined()) {
      held = repeat_chunk(chunk, context);
    }
    backward_chunk(chunk, std::move(held), context);
    held = Tensor();
    end = begin;
  }
}

// Whoever takes the losses as log-probabilities compares them with a sampler's, which come from
// float32 logits (logits()): a rounding to bfloat16 would move them by up to 1/16 nat each.
Tensor LmHead::scaled_logits(const Tensor& x, const Context& context) const {
  const DType dtype = context.token_loss != nullptr ? DType::kFloat32 : logits_dtype_;
  Tensor logits = linear_.forward(x, dtype, context.stream);
  scale_logits(logits, context);
  return logits;
}

// Sets row_max, sums and loss. Returns what the gradient of the logits is made from.
Tensor LmHead::forward_chunk(Tokens& chunk, const Context& context) const {
  Stream& stream = context.stream;
  parallel::Communicator& tensor = context.mesh.tensor();
  Tensor logits = scaled_logits(chunk.x, context);
  kernels::cross_entropy_row_max(logits, chunk.row_max, chunk.sums, stream);
  tensor.all_reduce(chunk.row_max, parallel::ReduceOp::kMax, stream).wait();
  kernels::cross_entropy_exp_sum(logits, classes_of(chunk), chunk.row_max, chunk.sums, stream);
  tensor.all_reduce(chunk.sums, parallel::ReduceOp::kSum, stream).wait();
  kernels::cross_entropy_loss(chunk.sums, chunk.targets.mask, chunk.loss, stream);
  return logits;
}

// The same logits again, where row_max and sums are those of all ranks already.
Tensor LmHead::repeat_chunk(const Tokens& chunk, const Context& context) const {
  Tensor logits = scaled_logits(chunk.x, context);
  Tensor unused = Tensor::zeros(chunk.sums.shape(), DType::kFloat32, context.stream);
  kernels::cross_entropy_exp_sum(logits, classes_of(chunk), chunk.row_max, unused, context.stream);
  return logits;
}

kernels::CrossEntropyClasses LmHead::classes_of(const Tokens& chunk) const {
  return {chunk.targets.ids, first_class_, class_chunks_};
}

// Sets dx and adds to the weight's gradient. `logits`, as the forward left them, are used up.
void LmHead::backward_chunk(Tokens& chunk, Tensor logits, const Context& context) {
  Stream& stream = context.stream;
  Tensor& d_logits = logits;
  kernels::cross_entropy_backward(
      d_logits, {chunk.targets.ids, chunk.targets.weights, chunk.row_max, chunk.sums}, first_class_,
      stream);
  scale_logits(d_logits, context);
  if (d_logits.dtype() != chunk.x.dtype()) {  // once for both products
    Tensor factor = Tensor::empty(d_logits.shape(), chunk.x.dtype(), stream);
    kernels::convert(d_logits, factor, stream);
    d_logits = factor;
  }
  linear_.backward_input(d_logits, chunk.dx, kernels::Accumulate::kOverwrite, stream);
  linear_.backward_weight(d_logits, chunk.x, stream);
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
