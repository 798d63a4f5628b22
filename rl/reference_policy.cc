#include "rl/reference_policy.h"

#include "kernels/elementwise.h"
#include "parallel/float32_state.h"

namespace fathom::rl {

ReferencePolicy::ReferencePolicy(parallel::ParameterBuffer& parameters, Stream& stream)
    : parameters_(&parameters), stream_(&stream) {
  for (const parallel::ParameterGroup& group : parameters.groups()) {
    shards_.push_back(Tensor::zeros(group.value_shard.shape(), group.value_shard.dtype(), stream));
  }
}

void ReferencePolicy::refresh() {
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    kernels::copy(parameters_->groups()[i].value_shard, shards_[i], *stream_);
  }
}

// Reference and current shards change places; then every replica has the others' of its own too.
void ReferencePolicy::exchange() {
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    Tensor& current = parameters_->groups()[i].value_shard;
    Tensor kept = Tensor::empty(current.shape(), current.dtype(), *stream_);
    kernels::copy(current, kept, *stream_);
    kernels::copy(shards_[i], current, *stream_);
    shards_[i] = kept;
  }
  parameters_->gather_values(*stream_);
}

void ReferencePolicy::run(const std::function<void()>& body) {
  exchange();
  body();
  exchange();
}

void ReferencePolicy::visit_state(parallel::StateVisitor& visitor) {
  parallel::Float32State values(visitor, *stream_);
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    for (const parallel::ParameterRange& range : parameters_->groups()[i].shard_ranges) {
      parallel::visit_range(range, shards_[i], ".reference", true, values);
    }
  }
}

}  // namespace fathom::rl
