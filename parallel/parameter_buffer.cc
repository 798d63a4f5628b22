#include "parallel/parameter_buffer.h"

#include <algorithm>

#include "core/error.h"
#include "core/host_copy.h"
#include "kernels/elementwise.h"

namespace fathom::parallel {
namespace {

// Elements: every parameter and every shard starts at a multiple of 256 bytes, of bfloat16 as of
// float32, which is what products on a GPU like best.
constexpr std::int64_t kAlignment = 128;

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

void ParameterBuffer::lay_out(ParameterGroup& group, DType value_dtype, Stream& stream) {
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
    parameter.value = group.values.view_elements(offsets[i], parameter.shape);
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
  for (Parameter* parameter : parameters) {
    FATHOM_CHECK(parameter->replicas != nullptr, parameter->name);
    auto group = std::find_if(groups_.begin(), groups_.end(), [&](const ParameterGroup& candidate) {
      return candidate.replicas == parameter->replicas;
    });
    if (group == groups_.end()) {
      group = groups_.insert(groups_.end(), ParameterGroup{});
      group->replicas = parameter->replicas;
    }
    group->parameters.push_back(parameter);
  }
  for (ParameterGroup& group : groups_) {
    lay_out(group, format.value_dtype, stream);
  }
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

void ParameterBuffer::zero_gradients(Stream& stream) {
  for (ParameterGroup& group : groups_) {
    kernels::fill(group.gradients, 0.0F, stream);
  }
  if (num_refused_.defined()) {
    kernels::fill(num_refused_, 0.0F, stream);
  }
}

std::int64_t ParameterBuffer::num_refused(Stream& stream) const {
  return num_refused_.defined() ? to_host<std::int64_t>(num_refused_, stream)[0] : 0;
}

void ParameterBuffer::reduce(ParameterGroup& group, DType dtype, Stream& stream) const {
  if (format_.dtype == DType::kFloat32 && dtype != DType::kFloat32) {
    Tensor rounded = Tensor::empty(group.gradients.shape(), dtype, stream);
    kernels::convert(group.gradients, rounded, stream);
    kernels::convert(rounded, group.gradients, stream);
  }
  const std::int64_t begin = group.replicas->rank() * group.shard_size;
  Tensor shard = group.gradients.narrow(begin, begin + group.shard_size);
  group.replicas->reduce_scatter(group.gradients, shard, stream).wait();
  group.gradient_shard = shard;
  if (format_.dtype == DType::kInt64) {
    group.gradient_shard = shard.view_as(DType::kFloat32, shard.shape());
    kernels::round_gradient(shard, format_.fraction_bits, group.gradient_shard, stream);
  }
}

void ParameterBuffer::reduce_gradients(Stream& stream, DType dtype) {
  for (ParameterGroup& group : groups_) {
    reduce(group, dtype, stream);
  }
}

void ParameterBuffer::gather_values(Stream& stream) {
  for (ParameterGroup& group : groups_) {
    group.gradient_shard = Tensor();
    if (group.replicas->world_size() > 1) {
      group.replicas->all_gather(group.value_shard, group.values, stream).wait();
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
