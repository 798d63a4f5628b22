#pragma once

#include <string>

#include "model/context.h"
#include "model/linear.h"
#include "model/options.h"
#include "parallel/parameter.h"

namespace fathom::model {

// y = W_down ( silu(W_gate x) * (W_up x) ), the features cut over the tensor axis. Dense layers and
// shared experts.
class Mlp {
 public:
  struct Saved {
    Tensor x;  // [local tokens, hidden]; may be taken away and given back by the caller
    // Undefined where the backward computes them again.
    Tensor gate_up;        // [all tokens, 2 * local features], chunk by chunk [gate | up]
    Tensor activated;      // [all tokens, local features]
    Tensor dy, d_gate_up;  // left by backward_input for backward_weight
  };

  Mlp() = default;
  Mlp(const std::string& prefix, const ModelOptions& options, std::int64_t intermediate_size,
      const parallel::Mesh& mesh);

  Tensor forward(const Tensor& x, Saved& saved, const Context& context) const;
  Tensor backward_input(const Tensor& dy, Saved& saved, const Context& context) const;
  void backward_weight(Saved& saved, const Context& context);
  void for_each_parameter(const parallel::VisitParameter& visit);

 private:
  Tensor forward_gate_up(const Tensor& x, const Context& context) const;
  // [all tokens, local features]
  Tensor activate(const Tensor& gate_up, Stream& stream) const;

  int num_chunks_ = 1;
  DType partial_dtype_ = DType::kFloat32;
  Linear gate_up_, down_;
};

}  // namespace fathom::model
