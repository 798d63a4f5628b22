#include "model/embedding.h"

#include "kernels/embedding.h"
#include "parallel/tensor_parallel.h"

namespace fathom::model {

Embedding::Embedding(const ModelOptions& options, const parallel::Mesh& mesh,
                     parallel::Communicator& replicas)
    : table_(parallel::row_cut_parameter("model.embed_tokens.weight",
                                         Shape{options.vocab_size, options.hidden_size},
                                         mesh.tensor(), replicas)) {
  table_.is_table = true;
}

Tensor Embedding::forward(const Tensor& tokens, Saved& saved, const Context& context) const {
  saved.tokens = tokens;
  Tensor rows =
      Tensor::empty(Shape{tokens.size(0), table_.shape[1]}, table_.value().dtype(), context.stream);
  kernels::embedding_forward(tokens, table_.value(), first_row(), rows, context.stream);
  return parallel::sum_and_scatter_token_rows(context.mesh.tensor(), rows, rows.dtype(),
                                              context.stream);
}

void Embedding::backward_weight(Saved& saved, const Context& context) {
  const Tensor dy = parallel::gather_token_rows(context.mesh.tensor(), saved.dy, context.stream);
  kernels::embedding_backward(saved.tokens, dy, first_row(), table_.grad, context.stream);
  saved = Saved();
}

}  // namespace fathom::model
