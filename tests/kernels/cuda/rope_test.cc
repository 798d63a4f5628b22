#include "kernels/rope.h"

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {

TEST_CASE("rope on CUDA turns as on the CPU, heads, strides and untouched columns included") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const auto direction = GENERATE(RopeDirection::kForward, RopeDirection::kInverse);
  const std::int64_t num_tokens = GENERATE(0, 1, 9);
  // {num_heads, head_stride, first_column, rope_size}: DeepSeek's queries and key, odd ones, none
  const RopeColumns columns =
      GENERATE(RopeColumns{3, 48, 32, 16}, RopeColumns{1, 0, 64, 64}, RopeColumns{3, 27, 5, 22},
               RopeColumns{40, 64, 0, 64}, RopeColumns{2, 2, 0, 2}, RopeColumns{0, 4, 0, 4});
  const std::int64_t width = columns.first_column +
                             std::max(columns.num_heads - 1, 0) * columns.head_stride +
                             columns.rope_size;
  const Tensor table =
      rope_table(rope_frequencies(columns.rope_size, 10000.0, {}), 40, devices.cpu);
  std::vector<std::int32_t> at;
  for (std::int64_t i = 0; i < num_tokens; ++i) {
    at.push_back(static_cast<std::int32_t>(i * 13 % 40));
  }
  const Tensor positions = tensor_of(at, Shape{num_tokens}, devices.cpu);
  const Tensor source =
      devices.rounded(random_tensor(Shape{num_tokens, width}, "source", devices.cpu), dtype);
  Tensor want = filled(source.shape(), 9.0F, devices.cpu);
  rope(columns, direction, table, positions, source, want, devices.cpu);

  const Tensor table_there = devices.to_cuda(table);
  const Tensor positions_there = devices.to_cuda(positions);
  Tensor there = devices.to_cuda(source, dtype);
  Tensor found = devices.to_cuda(filled(source.shape(), 9.0F, devices.cpu), dtype);
  rope(columns, direction, table_there, positions_there, there, found, devices.cuda);
  CHECK(largest_error(found, want, devices) < tolerance(dtype));

  Tensor in_place = tensor_of(vector_of(source), source.shape(), devices.cpu);
  rope(columns, direction, table, positions, in_place, in_place, devices.cpu);
  rope(columns, direction, table_there, positions_there, there, there, devices.cuda);
  CHECK(largest_error(there, in_place, devices) < tolerance(dtype));
}

TEST_CASE("rope on CUDA writes NaN for a position outside the table, and nothing else is harmed") {
  Devices devices;
  const int rope_size = GENERATE(2, 8);
  const RopeColumns columns{1, 0, 0, rope_size};
  const Tensor table = rope_table(rope_frequencies(rope_size, 10000.0, {}), 5, devices.cpu);
  const Tensor positions =
      devices.to_cuda(tensor_of<std::int32_t>({4, 5, -1}, Shape{3}, devices.cpu));
  const Tensor source = devices.to_cuda(filled(Shape{3, rope_size}, 1.0F, devices.cpu));
  Tensor found = devices.empty(Shape{3, rope_size}, DType::kFloat32);
  rope(columns, RopeDirection::kForward, devices.to_cuda(table), positions, source, found,
       devices.cuda);
  const std::vector<float> values = vector_of(devices.to_cpu(found));
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(std::isnan(values[i]) == (i >= static_cast<std::size_t>(rope_size)));
  }
}

}  // namespace fathom::kernels
