#include "model/feed_forward.h"

namespace fathom::model {
namespace {

std::variant<Mlp, Moe> make_layer(const std::string& prefix, const ModelOptions& options,
                                  bool is_dense, const parallel::Mesh& mesh) {
  if (is_dense) {
    return Mlp(prefix, options, options.intermediate_size, mesh);
  }
  return Moe(prefix, options, mesh);
}

}  // namespace

FeedForward::FeedForward(const std::string& prefix, const ModelOptions& options, bool is_dense,
                         const parallel::Mesh& mesh)
    : layer_(make_layer(prefix, options, is_dense, mesh)) {}

Tensor FeedForward::forward(const Tensor& x, Saved& saved, const Context& context) const {
  return std::visit(
      [&]<class Layer>(const Layer& layer) {
        return layer.forward(x, saved.emplace<typename Layer::Saved>(), context);
      },
      layer_);
}

Tensor FeedForward::backward_input(const Tensor& dy, Saved& saved, const Context& context) const {
  return std::visit(
      [&]<class Layer>(const Layer& layer) {
        return layer.backward_input(dy, std::get<typename Layer::Saved>(saved), context);
      },
      layer_);
}

void FeedForward::backward_weight(Saved& saved, const Context& context) {
  std::visit(
      [&]<class Layer>(Layer& layer) {
        layer.backward_weight(std::get<typename Layer::Saved>(saved), context);
      },
      layer_);
}

void FeedForward::for_each_parameter(const parallel::VisitParameter& visit) {
  std::visit([&](auto& layer) { layer.for_each_parameter(visit); }, layer_);
}

Tensor& saved_input(FeedForward::Saved& saved) {
  return std::visit([](auto& layer_saved) -> Tensor& { return layer_saved.x; }, saved);
}

}  // namespace fathom::model
