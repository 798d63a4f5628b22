#include "kernels/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/host_copy.h"
#include "kernels/check_tensor.h"

namespace fathom::kernels {

constinit KernelSlot<void(const RopeColumns&, RopeDirection, const Tensor&, const Tensor&,
                          const Tensor&, Tensor&, Stream&)>
    rope_slot{"rope"};

void rope(const RopeColumns& columns, RopeDirection direction, const Tensor& cos_sin,
          const Tensor& positions, const Tensor& source, Tensor& destination, Stream& stream) {
  FATHOM_CHECK(columns.num_heads >= 0 && columns.first_column >= 0 && columns.rope_size >= 0 &&
                   columns.rope_size % 2 == 0 &&
                   (columns.num_heads < 2 || columns.head_stride >= columns.rope_size),
               columns.num_heads, " heads of ", columns.rope_size, " rotated columns from ",
               columns.first_column, ", stride ", columns.head_stride);
  const TensorCheck check("rope", stream);
  check.rank("positions", positions, 1);
  check.dtype_and_device("positions", positions, DType::kInt32);
  check.rank("cos_sin", cos_sin, 2);
  check.shape("cos_sin", cos_sin, Shape{cos_sin.size(0), columns.rope_size});
  const std::int64_t last_head = std::max(columns.num_heads - 1, 0);
  const std::int64_t num_columns =
      columns.first_column + last_head * columns.head_stride + columns.rope_size;
  const DType dtype = check.activation_dtype("source", source);
  check.rows("source", source, positions.size(0), num_columns, dtype);
  check.rows("destination", destination, positions.size(0), num_columns, dtype);
  rope_slot(stream, columns, direction, cos_sin, positions, source, destination);
}

double yarn_correction_dim(int rope_size, double theta, const YarnOptions& yarn, double rotations) {
  return rope_size * std::log(yarn.original_max_position / (2.0 * std::numbers::pi * rotations)) /
         (2.0 * std::log(theta));
}

std::vector<double> rope_frequencies(int rope_size, double theta, const YarnOptions& yarn) {
  FATHOM_CHECK(rope_size >= 0 && rope_size % 2 == 0 && theta > 1.0 && yarn.factor > 0.0,
               "rope_size ", rope_size, ", theta ", theta, ", factor ", yarn.factor);
  const double low =
      std::max(std::floor(yarn_correction_dim(rope_size, theta, yarn, yarn.beta_fast)), 0.0);
  double high = std::min(std::ceil(yarn_correction_dim(rope_size, theta, yarn, yarn.beta_slow)),
                         rope_size - 1.0);
  if (high == low) {
    high += 0.001;
  }
  std::vector<double> frequencies(static_cast<std::size_t>(rope_size / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const auto index = static_cast<double>(i);
    const double plain = std::pow(theta, -2.0 * index / rope_size);
    const double ramp = std::clamp((index - low) / (high - low), 0.0, 1.0);
    frequencies[i] = yarn.factor == 1.0 ? plain : plain * (1.0 - ramp) + plain / yarn.factor * ramp;
  }
  return frequencies;
}

Tensor rope_table(const std::vector<double>& frequencies, std::int64_t max_position,
                  Stream& stream) {
  const auto num_pairs = static_cast<std::int64_t>(frequencies.size());
  Tensor table = Tensor::empty(Shape{max_position, 2 * num_pairs}, DType::kFloat32, stream);
  if (stream.is_meta()) {
    return table;
  }
  std::vector<float> values(static_cast<std::size_t>(table.numel()));
  stream.parallel_for(max_position, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t position = begin; position < end; ++position) {
      for (std::int64_t i = 0; i < num_pairs; ++i) {
        const double angle =
            static_cast<double>(position) * frequencies[static_cast<std::size_t>(i)];
        float* pair = values.data() + (position * num_pairs + i) * 2;
        pair[0] = static_cast<float>(std::cos(angle));
        pair[1] = static_cast<float>(std::sin(angle));
      }
    }
  });
  from_host<float>(values, table, stream);
  return table;
}

}  // namespace fathom::kernels
