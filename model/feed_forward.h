#pragma once

#include <string>
#include <variant>

#include "model/mlp.h"
#include "model/moe.h"

namespace fathom::model {

// The second half of a decoder layer: dense or a mixture of experts, the choice made per layer.
class FeedForward {
 public:
  using Saved = std::variant<Mlp::Saved, Moe::Saved>;

  FeedForward(const std::string& prefix, const ModelOptions& options, bool is_dense,
              const parallel::Mesh& mesh);

  Tensor forward(const Tensor& x, Saved& saved, const Context& context) const;
  Tensor backward_input(const Tensor& dy, Saved& saved, const Context& context) const;
  void backward_weight(Saved& saved, const Context& context);
  void for_each_parameter(const parallel::VisitParameter& visit);
  Moe* moe() noexcept { return std::get_if<Moe>(&layer_); }  // null when dense

 private:
  std::variant<Mlp, Moe> layer_;
};

// The layer's input, which the caller may take away to save memory and must give back before the
// backward.
Tensor& saved_input(FeedForward::Saved& saved);

}  // namespace fathom::model
