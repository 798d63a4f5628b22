#pragma once

#include "core/tensor.h"
#include "model/context.h"
#include "model/options.h"
#include "parallel/parameter.h"

namespace fathom::model {

// Token embedding, rows of the table cut over the tensor axis. The main model and the MTP modules
// share the table, each with its own tokens; when they live on different pipeline ranks, both hold
// it and `replicas` covers both.
class Embedding {
 public:
  struct Saved {
    Tensor tokens;  // [all tokens] int32
    Tensor dy;      // left by backward_input
  };

  Embedding(const ModelOptions& options, const parallel::Mesh& mesh,
            parallel::Communicator& replicas);

  // tokens [all tokens] int32 -> [local tokens, hidden], of the dtype of the table
  Tensor forward(const Tensor& tokens, Saved& saved, const Context& context) const;
  // Keeps dy; nothing lies before an embedding.
  void backward_input(const Tensor& dy, Saved& saved) const { saved.dy = dy; }
  void backward_weight(Saved& saved, const Context& context);
  parallel::Parameter& table() noexcept { return table_; }

 private:
  std::int64_t first_row() const { return table_.pieces[0].row_begin; }
  parallel::Parameter table_;
};

}  // namespace fathom::model
