#include "tests/support/tiny_run.h"

#include <algorithm>

#include "core/error.h"
#include "core/host_copy.h"
#include "parallel/host_state.h"

namespace fathom::testing {
namespace {

template <class Copy>
void for_each_element(const parallel::StateSlice& slice, const Copy& copy) {
  std::size_t local = 0;
  for (std::int64_t row = slice.row_begin; row < slice.row_begin + slice.num_rows; ++row) {
    const std::int64_t first = row * slice.global_shape[-1] + slice.column_begin;
    for (std::int64_t column = 0; column < slice.num_columns; ++column, ++local) {
      copy(static_cast<std::size_t>(first + column), local);
    }
  }
}

template <class T>
Tensor device_tensor(const T* values, std::int64_t count, Stream& stream) {
  Tensor tensor = Tensor::empty(Shape{count}, kDTypeOf<T>, stream);
  from_host(std::span(values, static_cast<std::size_t>(count)), tensor, stream);
  return tensor;
}

}  // namespace

std::string to_string(const Layout& layout) {
  std::string text =
      concat("pipeline ", layout.mesh.pipeline, " x data ", layout.mesh.data, " x tensor ",
             layout.mesh.tensor, ", expert ", layout.mesh.expert, ", stages a rank ",
             layout.pipeline.stages_per_rank, ", groups of ", layout.pipeline.group_elements,
             ", micro-batch ", layout.micro_batch_size);
  const model::RecomputeOptions& recompute = layout.recompute;
  text += recompute.norms ? ", recompute norms" : "";
  text += recompute.swiglu ? ", recompute swiglu" : "";
  text += recompute.mla_up_projections ? ", recompute mla" : "";
  text += recompute.layers ? ", recompute layers" : "";
  text += recompute.experts ? ", recompute experts" : "";
  text += layout.threads > 1 ? concat(", ", layout.threads, " threads") : "";
  return text;
}

void LoadTensors::tensor(const parallel::StateSlice& slice, Tensor& local) {
  const std::vector<float>& source = tensors_->at(slice.key);
  FATHOM_CHECK(static_cast<std::int64_t>(source.size()) == slice.global_shape.numel(), slice.key,
               ": ", source.size(), " elements for ", slice.global_shape);
  float* const values = local.mutable_data<float>();
  for_each_element(slice, [&](std::size_t global, std::size_t i) { values[i] = source[global]; });
}

void StoreTensors::tensor(const parallel::StateSlice& slice, Tensor& local) {
  std::vector<float>& target = (*tensors_)[slice.key];
  target.resize(static_cast<std::size_t>(slice.global_shape.numel()));
  const float* const values = local.data<float>();
  for_each_element(slice, [&](std::size_t global, std::size_t i) { target[global] = values[i]; });
}

TinyRun::TinyRun(const model::ModelOptions& options, const Layout& layout,
                 parallel::Communicator& world, Stream& stream)
    : layout_(layout),
      stream_(&stream),
      mesh_(std::make_unique<parallel::Mesh>(world, layout.mesh)),
      model_(std::make_unique<model::PipelinedModel>(options, layout.pipeline, *mesh_, stream)) {}

void TinyRun::load(const Tensors& tensors) {
  LoadTensors into_host(tensors);
  parallel::HostState load(into_host, *stream_);
  for (const parallel::ParameterGroup& group : model_->parameters().groups()) {
    for (parallel::Parameter* parameter : group.parameters) {
      const std::int64_t numel = parameter->shape.numel();
      parallel::visit_range({parameter, 0, numel, 0}, parameter->value().reshape(Shape{numel}), "",
                            true, load);
    }
  }
  bool has_biases = false;
  for (const auto& [key, values] : tensors) {
    has_biases = has_biases || key.ends_with("e_score_correction_bias");
  }
  if (has_biases) {
    model_->visit_state(load);
  }
}

std::vector<model::MicroBatch> TinyRun::micro_batches(const TinyBatch& batch,
                                                      double mtp_loss_weight,
                                                      trainer::TokenCounts& counts) {
  const std::int64_t length = batch.sequence_length;
  const std::int64_t per_depth = batch.num_sequences * length;
  const auto depths = static_cast<std::int64_t>(batch.masks.size()) / per_depth;
  counts.assign(static_cast<std::size_t>(depths), 0);
  for (std::size_t i = 0; i < batch.masks.size(); ++i) {
    counts[i / static_cast<std::size_t>(per_depth)] += batch.masks[i] != 0.0F ? 1 : 0;
  }
  const std::int64_t per_rank = batch.num_sequences / layout_.mesh.data;
  const std::int64_t first_of_rank = mesh_->coordinates().data * per_rank;
  std::vector<model::MicroBatch> result;
  for (std::int64_t first = first_of_rank; first < first_of_rank + per_rank;
       first += layout_.micro_batch_size) {
    model::MicroBatch micro;
    micro.num_sequences = layout_.micro_batch_size;
    micro.sequence_length = length;
    micro.first_token = first * length;
    const std::int64_t count = micro.num_tokens();
    std::vector<std::int32_t> positions, sequence_ids, segments;
    for (std::int64_t i = 0; i < count; ++i) {
      positions.push_back(static_cast<std::int32_t>(i % length));
      sequence_ids.push_back(static_cast<std::int32_t>(i / length));
    }
    for (std::int64_t s = 0; s <= micro.num_sequences; ++s) {
      segments.push_back(static_cast<std::int32_t>(s * length));
    }
    micro.tokens = device_tensor(batch.tokens.data() + first * length, count, *stream_);
    micro.positions = device_tensor(positions.data(), count, *stream_);
    micro.sequence_ids = device_tensor(sequence_ids.data(), count, *stream_);
    micro.segments = device_tensor(segments.data(), micro.num_sequences + 1, *stream_);
    micro.balance_scale = 1.0 / static_cast<double>(batch.num_sequences);
    for (std::int64_t depth = 0; depth < depths; ++depth) {
      const std::int64_t offset = depth * per_depth + first * length;
      const double scale = (depth == 0 ? 1.0 : mtp_loss_weight / static_cast<double>(depths - 1)) /
                           static_cast<double>(counts[static_cast<std::size_t>(depth)]);
      model::Targets targets;
      targets.ids = device_tensor(batch.targets.data() + offset, count, *stream_);
      targets.mask = device_tensor(batch.masks.data() + offset, count, *stream_);
      std::vector<float> weights;
      for (std::int64_t i = 0; i < count; ++i) {
        weights.push_back(static_cast<float>(
            scale * static_cast<double>(batch.masks[static_cast<std::size_t>(offset + i)])));
      }
      targets.weights = device_tensor(weights.data(), count, *stream_);
      micro.targets.push_back(targets);
    }
    result.push_back(micro);
  }
  return result;
}

trainer::StepResult TinyRun::step(const TinyBatch& batch, optim::Optimizer& optimizer,
                                  const trainer::StepOptions& options, double mtp_loss_weight) {
  trainer::TokenCounts counts;
  const auto micro = micro_batches(batch, mtp_loss_weight, counts);
  trainer::TrainStep train_step(*model_, optimizer, *mesh_, *stream_);
  trainer::StepOptions with_recompute = options;
  with_recompute.recompute = layout_.recompute;
  return train_step.run(micro, counts, with_recompute, {});
}

void CaptureGradients::step(double, const Tensor&, Stream&) {
  for (const parallel::ParameterGroup& group : buffer_->groups()) {
    for (const parallel::ParameterRange& range : group.shard_ranges) {
      parallel::visit_range(range, group.gradient_shard, "", true, *visitor_);
    }
  }
}

}  // namespace fathom::testing
