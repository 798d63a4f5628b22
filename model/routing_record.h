#pragma once

#include <map>
#include <string>
#include <utility>

#include "core/tensor.h"

namespace fathom::model {

// The experts that the tokens of some micro-batches had in one pass over them, so that a later pass
// with other weights gives each token the same ones: gates and gradients are still those of the
// scores ("keep routing", DeepSeek-V3.2, section 3). Lives where the layers are: a pass over the
// same micro-batches in the same layout finds it again.
class RoutingRecord {
 public:
  // What passes do with it: write it down until it is complete, then have it again.
  bool is_complete() const noexcept { return is_complete_; }
  void complete() noexcept { is_complete_ = true; }

  // expert_ids [local tokens, top_k] int32 of the layer with this prefix.
  void keep(const std::string& layer, int micro_batch, const Tensor& expert_ids) {
    experts_.insert_or_assign({layer, micro_batch}, expert_ids);
  }
  const Tensor& experts(const std::string& layer, int micro_batch) const {
    return experts_.at({layer, micro_batch});
  }

 private:
  bool is_complete_ = false;
  std::map<std::pair<std::string, int>, Tensor> experts_;
};

}  // namespace fathom::model
