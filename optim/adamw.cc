#include "optim/adamw.h"

#include "kernels/adamw.h"

namespace fathom::optim {

AdamW::AdamW(parallel::ParameterBuffer& buffer, const AdamWHyperparameters& hyperparameters,
             Stream& stream)
    : buffer_(&buffer), hyperparameters_(hyperparameters) {
  for (const parallel::ParameterGroup& group : buffer.groups()) {
    const Shape shape{group.shard_size};
    moments_.push_back({Tensor::zeros(shape, hyperparameters.moment_dtype, stream),
                        Tensor::zeros(shape, hyperparameters.moment_dtype, stream)});
  }
}

void AdamW::step(double learning_rate, double grad_scale, Stream& stream) {
  ++num_updates_;
  kernels::AdamWOptions options;
  options.learning_rate = static_cast<float>(learning_rate);
  options.beta1 = static_cast<float>(hyperparameters_.beta1);
  options.beta2 = static_cast<float>(hyperparameters_.beta2);
  options.epsilon = static_cast<float>(hyperparameters_.epsilon);
  options.grad_scale = static_cast<float>(grad_scale);
  options.step = num_updates_;
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    parallel::ParameterGroup& group = buffer_->groups()[i];
    for (const parallel::ParameterRange& range : group.shard_ranges) {
      const Shape shape{range.end - range.begin};
      const auto part = [&](const Tensor& shard) {
        return shard.view_elements(range.shard_offset, shape);
      };
      options.weight_decay =
          range.parameter->weight_decay ? static_cast<float>(hyperparameters_.weight_decay) : 0.0F;
      Tensor value = part(group.value_shard);
      Tensor exp_avg = part(moments_[i].exp_avg);
      Tensor exp_avg_sq = part(moments_[i].exp_avg_sq);
      kernels::adamw_step(options, part(group.gradient_shard), value, value, exp_avg, exp_avg_sq,
                          stream);
    }
  }
}

void AdamW::visit_state(parallel::StateVisitor& visitor) {
  visitor.integer("optimizer.num_updates", num_updates_);
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    const parallel::ParameterGroup& group = buffer_->groups()[i];
    for (const parallel::ParameterRange& range : group.shard_ranges) {
      parallel::visit_range(range, group.value_shard, "", true, visitor);
      parallel::visit_range(range, moments_[i].exp_avg, ".exp_avg", true, visitor);
      parallel::visit_range(range, moments_[i].exp_avg_sq, ".exp_avg_sq", true, visitor);
    }
  }
}

void AdamW::weights_loaded(Stream& stream) { buffer_->gather_values(stream); }

}  // namespace fathom::optim
