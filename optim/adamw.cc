#include "optim/adamw.h"

#include "core/error.h"
#include "kernels/adamw.h"
#include "kernels/elementwise.h"

namespace fathom::optim {

AdamW::AdamW(parallel::ParameterBuffer& buffer, const AdamWHyperparameters& hyperparameters,
             Stream& stream)
    : buffer_(&buffer), hyperparameters_(hyperparameters) {
  for (const parallel::ParameterGroup& group : buffer.groups()) {
    FATHOM_CHECK(hyperparameters.master_weights || group.values.dtype() == DType::kFloat32,
                 "AdamW on values of ", group.values.dtype(), " without master weights");
    const Shape shape{group.shard_size};
    states_.push_back({Tensor::zeros(shape, hyperparameters.moment_dtype, stream),
                       Tensor::zeros(shape, hyperparameters.moment_dtype, stream),
                       hyperparameters.master_weights
                           ? Tensor::zeros(shape, DType::kFloat32, stream)
                           : Tensor()});
  }
}

bool AdamW::rounds_further(const parallel::ParameterGroup& group) const {
  return hyperparameters_.parameter_dtype == DType::kBFloat16 &&
         group.values.dtype() == DType::kFloat32;
}

void AdamW::round_values(const ShardState& state, parallel::ParameterGroup& group,
                         Stream& stream) const {
  if (!state.master.defined()) {
    return;
  }
  if (!rounds_further(group)) {
    kernels::convert(state.master, group.value_shard, stream);
    return;
  }
  Tensor rounded = Tensor::empty(state.master.shape(), hyperparameters_.parameter_dtype, stream);
  kernels::convert(state.master, rounded, stream);
  kernels::convert(rounded, group.value_shard, stream);
}

void AdamW::step(double learning_rate, const Tensor& grad_scale, Stream& stream) {
  kernels::AdamWOptions options;
  options.learning_rate = learning_rate;
  options.beta1 = hyperparameters_.beta1;
  options.beta2 = hyperparameters_.beta2;
  options.epsilon = hyperparameters_.epsilon;
  options.grad_scale = grad_scale;
  options.step = num_updates_ + 1;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    parallel::ParameterGroup& group = buffer_->groups()[i];
    const Tensor weights = weights_of(states_[i], group);
    // The update writes the values too, unless they are rounded further.
    const Tensor values = rounds_further(group) ? weights : group.value_shard;
    for (const parallel::ParameterRange& range : group.shard_ranges) {
      const Shape shape{range.end - range.begin};
      const auto part = [&](const Tensor& shard) {
        return shard.view_elements(range.shard_offset, shape);
      };
      options.weight_decay = range.parameter->weight_decay ? hyperparameters_.weight_decay : 0.0;
      Tensor master = part(weights);
      Tensor value = part(values);
      Tensor exp_avg = part(states_[i].exp_avg);
      Tensor exp_avg_sq = part(states_[i].exp_avg_sq);
      kernels::adamw_step(options, part(group.gradient_shard), master, value, exp_avg, exp_avg_sq,
                          stream);
    }
    if (rounds_further(group)) {
      round_values(states_[i], group, stream);
    }
  }
}

void AdamW::visit_state(parallel::StateVisitor& visitor) {
  visitor.integer("optimizer.num_updates", num_updates_);
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const parallel::ParameterGroup& group = buffer_->groups()[i];
    for (const parallel::ParameterRange& range : group.shard_ranges) {
      parallel::visit_range(range, weights_of(states_[i], group), "", true, visitor);
      parallel::visit_range(range, states_[i].exp_avg, ".exp_avg", true, visitor);
      parallel::visit_range(range, states_[i].exp_avg_sq, ".exp_avg_sq", true, visitor);
    }
  }
}

void AdamW::values_drawn(Stream& stream) {
  for (std::size_t i = 0; i < states_.size(); ++i) {
    parallel::ParameterGroup& group = buffer_->groups()[i];
    if (states_[i].master.defined()) {
      kernels::convert(group.value_shard, states_[i].master, stream);
      round_values(states_[i], group, stream);
    }
  }
  buffer_->gather_values(stream);
}

void AdamW::weights_loaded(Stream& stream) {
  for (std::size_t i = 0; i < states_.size(); ++i) {
    round_values(states_[i], buffer_->groups()[i], stream);
  }
  buffer_->gather_values(stream);
}

}  // namespace fathom::optim
