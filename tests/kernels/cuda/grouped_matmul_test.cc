#include "kernels/grouped_matmul.h"

#include <algorithm>
#include <limits>
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

// Multiples of 8: bfloat16 on the tensor cores. Less than a tile, tiles that are cut, several
// rounds of each block's ring, columns for wide tiles.
TEST_CASE("Grouped products on tensor cores are those of the CPU") {
  Devices devices;
  const Sizes sizes = GENERATE(Sizes{8, 8}, Sizes{136, 72}, Sizes{320, 512}, Sizes{512, 264});
  for (const auto& bounds : bounds_of_tests()) {
    check_products(bounds, sizes, DType::kBFloat16, devices);
  }
}

// Enough of them that a device of 132 multiprocessors takes wide tiles, in each of the two products
// that have them; the emulated one does so above.
TEST_CASE("Grouped products in wide tiles are those of the CPU") {
  Devices devices;
  check_products({0, 300, 301, 1000}, {.out_size = 2304, .in_size = 72}, DType::kBFloat16, devices);
  check_products({0, 300, 301, 1000}, {.out_size = 72, .in_size = 2304}, DType::kBFloat16, devices);
}

// Rows [begin, end) of the first dimension set to `value`.
Tensor with_rows(const Tensor& values, std::int64_t begin, std::int64_t end, float value,
                 Devices& devices) {
  std::vector<float> numbers = vector_of(values);
  const std::int64_t row_size = values.numel() / values.size(0);
  std::fill(numbers.begin() + begin * row_size, numbers.begin() + end * row_size, value);
  return tensor_of(numbers, values.shape(), devices.cpu);
}

// Whether all of the first dimension but [begin, end) has the same bits in both tensors.
bool same_outside(const Tensor& a, const Tensor& b, std::int64_t begin, std::int64_t end,
                  Devices& devices) {
  const std::vector<float> x = vector_of(with_rows(devices.to_cpu(a), begin, end, 0, devices));
  return x == vector_of(with_rows(devices.to_cpu(b), begin, end, 0, devices));
}

TEST_CASE("An expert's NaN and infinities reach no other expert") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t begin = 70;
  const std::int64_t end = 150;  // of the second expert's rows: no multiple of any tile
  const Tensor offsets = devices.to_cuda(offsets_tensor({0, begin, end, 200}, devices));
  const Tensor x = random_tensor({200, 40}, "x", devices.cpu);
  const Tensor dy = random_tensor({200, 72}, "dy", devices.cpu);
  const Tensor w = random_tensor({3, 72, 40}, "w", devices.cpu);
  const auto run = [&](const Tensor& rows_x, const Tensor& rows_dy, const Tensor& weights) {
    std::vector<Tensor> results{devices.empty({200, 72}, dtype), devices.empty({200, 40}, dtype),
                                devices.to_cuda(w)};
    const Tensor x_there = devices.to_cuda(rows_x, dtype);
    const Tensor dy_there = devices.to_cuda(rows_dy, dtype);
    const Tensor w_there = devices.to_cuda(weights, dtype);
    GradientSum dw = float_sum(results[2]);
    grouped_matmul_forward(x_there, w_there, offsets, results[0], devices.cuda);
    grouped_matmul_backward_input(dy_there, w_there, offsets, results[1], devices.cuda);
    grouped_matmul_backward_weight(dy_there, x_there, offsets, dw, devices.cuda);
    return results;
  };
  const std::vector<Tensor> want = run(x, dy, w);
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::vector<Tensor>> poisoned{
      run(with_rows(x, begin, end, nan, devices), dy, w),
      run(x, with_rows(dy, begin, end, infinity, devices), w),
      run(x, dy, with_rows(w, 1, 2, infinity, devices))};
  for (const std::vector<Tensor>& found : poisoned) {
    CHECK(same_outside(found[0], want[0], begin, end, devices));
    CHECK(same_outside(found[1], want[1], begin, end, devices));
    CHECK(same_outside(found[2], want[2], 1, 2, devices));
  }
  CHECK_FALSE(same_outside(poisoned[0][0], want[0], 0, 0, devices));
}

}  // namespace
}  // namespace fathom::kernels
