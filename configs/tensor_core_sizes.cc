#include "configs/tensor_core_sizes.h"

#include <algorithm>

#include "configs/rules.h"

namespace fathom::config {

std::vector<CutSize> tensor_core_sizes(const RunConfig& config) {
  if (config.run().device() == Run::CPU || config.optimizer().parameter_dtype() != BFLOAT16) {
    return {};
  }
  const Model& model = config.model();
  const auto of_heads = [&](std::int64_t a, std::int64_t b) {
    const bool is_sensible = a >= 0 && a <= kMaxSize && b >= 0 && b <= kMaxSize;
    return product_of_sizes(model.num_attention_heads(), is_sensible ? a + b : 0);
  };
  std::vector<CutSize> sizes{
      {"model.vocab_size", model.vocab_size()},
      {"model.num_attention_heads x (model.qk_nope_head_dim + model.qk_rope_head_dim)",
       of_heads(model.qk_nope_head_dim(), model.qk_rope_head_dim())},
      {"model.num_attention_heads x (model.qk_nope_head_dim + model.v_head_dim)",
       of_heads(model.qk_nope_head_dim(), model.v_head_dim())},
      {"model.num_attention_heads x model.v_head_dim", of_heads(model.v_head_dim(), 0)},
      {"model.moe.num_shared_experts x model.moe.intermediate_size",
       product_of_sizes(model.moe().num_shared_experts(), model.moe().intermediate_size())}};
  if (model.num_dense_layers() > 0 || !model.has_moe()) {
    sizes.push_back({"model.intermediate_size", model.intermediate_size()});
  }
  return sizes;
}

bool chunks_fit_tensor_cores(const RunConfig& config, std::int64_t num_chunks) {
  const std::vector<CutSize> sizes = tensor_core_sizes(config);
  return std::all_of(sizes.begin(), sizes.end(), [&](const CutSize& cut) {
    return cut.size % (num_chunks * kTensorCoreMultiple) == 0;
  });
}

}  // namespace fathom::config
