#include "trainer/forward_order.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <tuple>
#include <utility>

namespace fathom::trainer {
namespace {

// Components of names; only the order among those that share a parent counts.
constexpr std::array<std::string_view, 25> kOrder = {"embed_tokens",
                                                     "enorm",
                                                     "hnorm",
                                                     "eh_proj",
                                                     "layers",
                                                     "norm",
                                                     "input_layernorm",
                                                     "self_attn",
                                                     "q_proj",
                                                     "q_a_proj",
                                                     "q_a_layernorm",
                                                     "q_b_proj",
                                                     "kv_a_proj_with_mqa",
                                                     "kv_a_layernorm",
                                                     "kv_b_proj",
                                                     "o_proj",
                                                     "post_attention_layernorm",
                                                     "mlp",
                                                     "gate",  // the router
                                                     "experts",
                                                     "shared_experts",
                                                     "gate_proj",
                                                     "up_proj",
                                                     "down_proj",
                                                     "shared_head"};

// Of one component: the layer's or expert's number, or the place in kOrder; then the letters.
using Component = std::tuple<std::int64_t, std::string_view>;
// The part of the model, then the components.
using Place = std::pair<int, std::vector<Component>>;

Component component_of(std::string_view text) {
  std::int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && stop == text.data() + text.size()) {
    return {number, ""};
  }
  const auto* const found = std::find(kOrder.begin(), kOrder.end(), text);
  return {found - kOrder.begin(), found == kOrder.end() ? text : ""};
}

Place place_of(std::string_view key, int num_layers) {
  enum Part { kModel, kHead, kPrediction };
  std::vector<Component> components;
  for (std::size_t begin = 0; begin <= key.size();) {
    const std::size_t end = std::min(key.find('.', begin), key.size());
    components.push_back(component_of(key.substr(begin, end - begin)));
    begin = end + 1;
  }
  if (key.starts_with("model.layers.") && components.size() > 2) {
    return {std::get<0>(components[2]) < num_layers ? kModel : kPrediction, components};
  }
  return {key.starts_with("lm_head.") ? kHead : kModel, components};
}

}  // namespace

void sort_in_forward_order(std::vector<std::string>& keys, int num_layers) {
  std::sort(keys.begin(), keys.end(), [&](const std::string& a, const std::string& b) {
    return place_of(a, num_layers) < place_of(b, num_layers);
  });
}

}  // namespace fathom::trainer
