#include "kernels/grouped_matmul.h"

#include <vector>

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

struct Sizes {
  std::int64_t out_size = 0;
  std::int64_t in_size = 0;
};

// Sums in another order than the CPU's, of up to `depth` products of numbers in [-1, 1].
double tolerance_of_sums(DType dtype, std::int64_t depth) {
  return tolerance(dtype) + 1e-7 * static_cast<double>(depth);
}

Tensor offsets_tensor(const std::vector<std::int64_t>& values, Devices& devices) {
  return tensor_of(values, Shape{static_cast<std::int64_t>(values.size())}, devices.cpu);
}

// The three products on both devices, with two parts an expert in the weight gradient.
void check_products(const std::vector<std::int64_t>& bounds, const Sizes& sizes, DType dtype,
                    Devices& devices) {
  const auto num_experts = static_cast<std::int64_t>(bounds.size()) - 1;
  const std::int64_t num_rows = bounds.back();
  const Shape x_shape{num_rows, sizes.in_size};
  const Shape y_shape{num_rows, sizes.out_size};
  const Shape w_shape{num_experts, sizes.out_size, sizes.in_size};
  const Tensor x = devices.rounded(random_tensor(x_shape, "x", devices.cpu), dtype);
  const Tensor w = devices.rounded(random_tensor(w_shape, "w", devices.cpu), dtype);
  const Tensor dy = devices.rounded(random_tensor(y_shape, "dy", devices.cpu), dtype);
  const Tensor offsets = offsets_tensor(bounds, devices);
  const Tensor x_there = devices.to_cuda(x, dtype);
  const Tensor w_there = devices.to_cuda(w, dtype);
  const Tensor dy_there = devices.to_cuda(dy, dtype);
  const Tensor offsets_there = devices.to_cuda(offsets);

  Tensor y = Tensor::empty(y_shape, DType::kFloat32, devices.cpu);
  grouped_matmul_forward(x, w, offsets, y, devices.cpu);
  Tensor found = devices.empty(y_shape, dtype);
  grouped_matmul_forward(x_there, w_there, offsets_there, found, devices.cuda);
  CHECK(largest_error(found, y, devices) < tolerance_of_sums(dtype, sizes.in_size));

  Tensor dx = Tensor::empty(x_shape, DType::kFloat32, devices.cpu);
  grouped_matmul_backward_input(dy, w, offsets, dx, devices.cpu);
  Tensor dx_found = devices.empty(x_shape, dtype);
  grouped_matmul_backward_input(dy_there, w_there, offsets_there, dx_found, devices.cuda);
  CHECK(largest_error(dx_found, dx, devices) < tolerance_of_sums(dtype, sizes.out_size));

  std::vector<std::int64_t> parts;
  for (std::size_t e = 0; e + 1 < bounds.size(); ++e) {
    parts.insert(parts.end(), {bounds[e], (bounds[e] + bounds[e + 1]) / 2});
  }
  parts.push_back(num_rows);
  const Tensor part_offsets = offsets_tensor(parts, devices);
  const Tensor start = random_tensor(w_shape, "dw", devices.cpu);
  GradientSum dw = float_sum(random_tensor(w_shape, "dw", devices.cpu));
  grouped_matmul_backward_weight(dy, x, part_offsets, dw, devices.cpu);
  GradientSum dw_found = float_sum(devices.to_cuda(start));
  grouped_matmul_backward_weight(dy_there, x_there, devices.to_cuda(part_offsets), dw_found,
                                 devices.cuda);
  CHECK(largest_error(dw_found.sum, dw.sum, devices) <
        tolerance_of_sums(DType::kFloat32, num_rows));
}

// Uneven, empty at the ends and in the middle, one expert with everything, nothing at all.
std::vector<std::vector<std::int64_t>> bounds_of_tests() {
  return {{0, 5, 5, 205, 209, 300}, {0, 0, 300, 300}, {0, 64, 192, 320}, {0, 1, 2}, {0, 0, 0}};
}

TEST_CASE("Grouped products on CUDA are those of the CPU") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const Sizes sizes = GENERATE(Sizes{1, 1}, Sizes{109, 70}, Sizes{64, 16}, Sizes{65, 131});
  for (const auto& bounds : bounds_of_tests()) {
    check_products(bounds, sizes, dtype, devices);
  }
}

// Multiples of 8: bfloat16 on the tensor cores. Less than a tile, tiles that are cut, several rounds
// of each block's ring, columns for wide tiles.
TEST_CASE("Grouped products on tensor cores are those of the CPU") {
  Devices devices;
  const Sizes sizes = GENERATE(Sizes{8, 8}, Sizes{136, 72}, Sizes{64, 512}, Sizes{512, 264});
  for (const auto& bounds : bounds_of_tests()) {
    check_products(bounds, sizes, DType::kBFloat16, devices);
  }
}

}  // namespace
}  // namespace fathom::kernels
