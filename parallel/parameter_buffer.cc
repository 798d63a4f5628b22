#include "parallel/parameter_buffer.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/round_up.h"
#include "kernels/elementwise.h"
#include "parallel/parameter_groups.h"

namespace fathom::parallel {
namespace {

// Elements: every parameter and every shard starts at a multiple of 256 bytes, of bfloat16 as of
// float32, which is what products on a GPU like best.
constexpr std::int64_t kAlignment = 128;

}  // namespace

void ParameterBuffer::lay_out(std::size_t index, DType value_dtype, Stream& stream) {
  ParameterGroup& group = groups_[index];
  std::vector<std::int64_t> offsets;
  std::int64_t size = 0;
  for (const Parameter* parameter : group.parameters) {
    offsets.push_back(size);
    size = round_up(size + parameter->shape.numel(), kAlignment);
  }
  const std::int64_t padded = round_up(size, kAlignment * group.replicas->world_size());
  group.values = Tensor::zeros(Shape{padded}, value_dtype, stream);
  if (format_.is_allocated) {
    group.gradients = Tensor::zeros(Shape{padded}, format_.dtype, stream);
  }
  group.shard_size = padded / group.replicas->world_size();
  const std::int64_t shard_begin = group.replicas->rank() * group.shard_size;
  group.value_shard = group.values.narrow(shard_begin, shard_begin + group.shard_size);
  for (std::size_t i = 0; i < group.parameters.size(); ++i) {
    Parameter& parameter = *group.parameters[i];
    places_.emplace(&parameter, Place{index, offsets[i]});
    parameter.arrival_ = &transfers_[index].gather;
    parameter.value_ = group.values.view_elements(offsets[i], parameter.shape);
    if (format_.is_allocated) {
      parameter.grad =
          gradient_sum(parameter, group.gradients.view_elements(offsets[i], parameter.shape));
    }
    const std::int64_t begin = std::max(shard_begin, offsets[i]);
    const std::int64_t end =
        std::min(shard_begin + group.shard_size, offsets[i] + parameter.shape.numel());
    if (begin < end) {
      group.shard_ranges.push_back(
          {&parameter, begin - offsets[i], end - offsets[i], begin - shard_begin});
    }
  }
}

kernels::GradientSum ParameterBuffer::gradient_sum(const Parameter& parameter,
                                                   const Tensor& elements) const {
  kernels::GradientSum gradient;
  gradient.sum = elements;
  gradient.unit_rows = format_.unit_tokens;
  if (format_.dtype == DType::kInt64) {
    const std::int64_t tokens = std::max<std::int64_t>(1, format_.tokens_per_step);
    const std::int64_t unit =
        parameter.is_table || format_.unit_tokens == 0 ? 1 : format_.unit_tokens;
    gradient.num_refused = num_refused_;
    gradient.fraction_bits = format_.fraction_bits;
    gradient.limit = kernels::contribution_limit(
        format_.fraction_bits, (tokens + unit - 1) / unit * format_.uses_per_token);
  }
  return gradient;
}

ParameterBuffer::ParameterBuffer(const std::vector<Parameter*>& parameters,
                                 const ParameterFormat& format, Stream& stream)
    : format_(format.gradients) {
  if (format_.dtype == DType::kInt64) {
    num_refused_ = Tensor::zeros(Shape{1}, DType::kInt64, stream);
  }
  for (std::vector<Parameter*>& neighbours : cut_into_groups(parameters, format.group_elements)) {
    ParameterGroup& group = groups_.emplace_back();
    group.replicas = neighbours.front()->replicas;
    group.parameters = std::move(neighbours);
  }
  transfers_ = std::vector<Transfers>(groups_.size());
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    lay_out(i, format.value_dtype, stream);
    transfers_[i].num_incomplete = groups_[i].parameters.size();
  }
}

std::vector<ParameterGroup>& ParameterBuffer::groups() {
  for (Transfers& transfers : transfers_) {
    transfers.gather.wait();
  }
  return groups_;
}

std::int64_t ParameterBuffer::num_local_elements() const noexcept {
  std::int64_t total = 0;
  for (const ParameterGroup& group : groups_) {
    for (const Parameter* parameter : group.parameters) {
      total += parameter->shape.numel();
    }
  }
  return total;
}

void ParameterBuffer::begin_gradients(Stream& stream, DType sent_as) {
  FATHOM_CHECK(num_reductions_ == 0, "a new step while gradients of the last are being reduced");
  sent_as_ = sent_as;
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    fill_padding(i, stream);
    transfers_[i].num_incomplete = groups_[i].parameters.size();
  }
  for (const auto& [parameter, place] : places_) {
    parameter->grad.sum =
        groups_[place.group].gradients.view_elements(place.offset, parameter->shape);
    parameter->grad.is_empty = true;
  }
  if (num_refused_.defined()) {
    kernels::fill(num_refused_, 0.0F, stream);
  }
}

// Zeroes what lies behind the parameters of a group, where the last reduction may have left
// something.
void ParameterBuffer::fill_padding(std::size_t index, Stream& stream) {
  const ParameterGroup& group = groups_[index];
  for (std::size_t i = 0; i < group.parameters.size(); ++i) {
    const Parameter& parameter = *group.parameters[i];
    const std::int64_t begin = places_.at(group.parameters[i]).offset + parameter.shape.numel();
    const std::int64_t end = i + 1 < group.parameters.size()
                                 ? places_.at(group.parameters[i + 1]).offset
                                 : group.gradients.numel();
    if (begin < end) {
      Tensor padding = group.gradients.narrow(begin, end);
      kernels::fill(padding, 0.0F, stream);
    }
  }
}

void ParameterBuffer::gradient_complete(Parameter& parameter, Stream& stream) {
  FATHOM_CHECK(parameter.grad.sum.defined(), parameter.name, " is complete already");
  parameter.grad.sum = Tensor();  // so that nothing can be added unnoticed
  transfers_[places_.at(&parameter).group].num_incomplete -= 1;
  // In one order on all replicas: NCCL and the tags of messages rely on it.
  while (num_reductions_ < groups_.size()) {
    const std::size_t next = groups_.size() - 1 - num_reductions_;
    if (transfers_[next].num_incomplete > 0) {
      return;
    }
    start_reduction(next, stream);
  }
}

void ParameterBuffer::start_reduction(std::size_t index, Stream& stream) {
  ParameterGroup& group = groups_[index];
  for (Parameter* const parameter : group.parameters) {
    kernels::GradientSum rest = parameter->grad;
    rest.sum = group.gradients.view_elements(places_.at(parameter).offset, parameter->shape);
    kernels::fill_if_empty(rest, stream);
    parameter->grad.is_empty = false;
  }
  if (format_.dtype == DType::kFloat32 && sent_as_ != DType::kFloat32) {
    Tensor rounded = Tensor::empty(group.gradients.shape(), sent_as_, stream);
    kernels::convert(group.gradients, rounded, stream);
    kernels::convert(rounded, group.gradients, stream);
  }
  const std::int64_t begin = group.replicas->rank() * group.shard_size;
  Tensor shard = group.gradients.narrow(begin, begin + group.shard_size);
  transfers_[index].reduction = group.replicas->reduce_scatter(group.gradients, shard, stream);
  ++num_reductions_;
}

void ParameterBuffer::finish_reduction(std::size_t index, Stream& stream) {
  ParameterGroup& group = groups_[index];
  transfers_[index].reduction.wait();
  const std::int64_t begin = group.replicas->rank() * group.shard_size;
  const Tensor shard = group.gradients.narrow(begin, begin + group.shard_size);
  group.gradient_shard = shard;
  if (format_.dtype == DType::kInt64) {
    group.gradient_shard = shard.view_as(DType::kFloat32, shard.shape());
    kernels::round_gradient(shard, format_.fraction_bits, group.gradient_shard, stream);
  }
}

void ParameterBuffer::reduce_gradients(Stream& stream) {
  while (num_reductions_ < groups_.size()) {
    start_reduction(groups_.size() - 1 - num_reductions_, stream);
  }
  for (std::size_t i = groups_.size(); i-- > 0;) {
    finish_reduction(i, stream);
  }
  num_reductions_ = 0;
}

void ParameterBuffer::gather_values(Stream& stream) {
  for (std::size_t i = 0; i < groups_.size(); ++i) {
    ParameterGroup& group = groups_[i];
    group.gradient_shard = Tensor();
    if (group.replicas->world_size() > 1) {
      transfers_[i].gather = group.replicas->all_gather(group.value_shard, group.values, stream);
    }
  }
}

void visit_range(const ParameterRange& range, const Tensor& shard, const std::string& key_suffix,
                 bool is_owner, StateVisitor& visitor) {
  for (const Piece& piece : range.parameter->pieces) {
    std::int64_t begin =
        std::max<std::int64_t>(range.begin, piece.local_offset) - piece.local_offset;
    const std::int64_t end =
        std::min(range.end, piece.local_offset + piece.numel()) - piece.local_offset;
    while (begin < end) {
      // Up to the end of a started row, else as many whole rows as there are, else the start of a
      // row.
      const std::int64_t row = begin / piece.num_columns;
      const std::int64_t column = begin % piece.num_columns;
      StateSlice slice{piece.key + key_suffix, piece.global_shape, 0, 1, 0, 0, is_owner};
      slice.row_begin = piece.row_begin + row;
      slice.column_begin = piece.column_begin + column;
      if (column == 0 && end - begin >= piece.num_columns) {
        slice.num_rows = (end - begin) / piece.num_columns;
        slice.num_columns = piece.num_columns;
      } else {
        slice.num_columns = std::min(end - begin, piece.num_columns - column);
      }
      const std::int64_t count = slice.num_rows * slice.num_columns;
      const std::int64_t in_shard = range.shard_offset + (piece.local_offset + begin - range.begin);
      Tensor local = shard.view_elements(in_shard, Shape{slice.num_rows, slice.num_columns});
      visitor.tensor(slice, local);
      begin += count;
    }
  }
}

}  // namespace fathom::parallel
