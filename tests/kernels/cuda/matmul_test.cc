#include "kernels/matmul.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

struct Sizes {
  std::int64_t rows, in, out, spare_columns;  // of x and dx
};

Sizes generated_sizes() {
  return GENERATE(Sizes{0, 3, 5, 0}, Sizes{1, 1, 1, 0}, Sizes{5, 16, 24, 0}, Sizes{33, 72, 40, 8},
                  Sizes{7, 45, 19, 3}, Sizes{4, 0, 6, 2}, Sizes{3, 300, 0, 1});
}

// What roundings of the inputs do not explain: of a sum of `count` products of normal numbers.
double sum_tolerance(DType output, std::int64_t count) {
  return tolerance(output) + 1e-6 * static_cast<double>(count);
}

// The largest difference of a sum from `want`, relative to what of 1, the sum and its last term is
// largest: on tensor cores cuBLASLt rounds a product to bfloat16 before it adds it (seen on an
// H100), and the sum again.
double largest_error_of_sum(const Tensor& found, const std::vector<double>& want,
                            const std::vector<double>& term) {
  const std::vector<float> sums = vector_of(found);
  double largest = 0.0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double scale = std::max({1.0, std::abs(want[i]), std::abs(term[i])});
    const double error = std::abs(sums[i] - want[i]) / scale;
    largest =
        std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(largest, error);
  }
  return largest;
}

// One linear layer's tensors; dtypes as on the GPU, values in float32 on the CPU.
struct Layer {
  Layer(const Sizes& sizes, DType activations, DType outputs, Devices& devices)
      : x(devices.rounded(
            random_tensor(Shape{sizes.rows, sizes.in + sizes.spare_columns}, "x", devices.cpu),
            activations)),
        w(devices.rounded(random_tensor(Shape{sizes.out, sizes.in}, "w", devices.cpu),
                          activations)),
        // A float32 dy is rounded to the activations' dtype by the operation.
        dy(devices.rounded(random_tensor(Shape{sizes.rows, sizes.out}, "dy", devices.cpu),
                           activations)),
        x_there(devices.to_cuda(x, activations)),
        w_there(devices.to_cuda(w, activations)),
        dy_there(devices.to_cuda(dy, outputs)) {}

  Tensor x, w, dy;
  Tensor x_there, w_there, dy_there;
};

}  // namespace

TEST_CASE("The products of a linear layer on CUDA are those of the CPU") {
  const SumOrder order = GENERATE(SumOrder::kFastest, SumOrder::kFixed);
  Devices devices;
  if (order == SumOrder::kFixed) {
    devices = devices_of_fixed_order();
  }
  const Sizes sizes = generated_sizes();
  const auto [activations, outputs] = GENERATE(std::pair{DType::kFloat32, DType::kFloat32},
                                               std::pair{DType::kBFloat16, DType::kBFloat16},
                                               std::pair{DType::kBFloat16, DType::kFloat32});
  INFO(sizes.rows << " rows, " << sizes.in << " in, " << sizes.out << " out, " << activations
                  << " to " << outputs << (order == SumOrder::kFixed ? ", fixed" : ""));
  Layer layer(sizes, activations, outputs, devices);

  SECTION("forward") {
    Tensor want = random_tensor(layer.dy.shape(), "old y", devices.cpu);
    Tensor found = devices.empty(want.shape(), outputs);
    matmul_forward(layer.x, layer.w, want, 1, devices.cpu);
    matmul_forward(layer.x_there, layer.w_there, found, 1, devices.cuda);
    CHECK(largest_error(found, want, devices) < sum_tolerance(outputs, sizes.in));
  }
  SECTION("backward of the input") {
    const Accumulate accumulate = GENERATE(Accumulate::kOverwrite, Accumulate::kAdd);
    // Spare columns keep what they hold.
    Tensor want = devices.rounded(random_tensor(layer.x.shape(), "old dx", devices.cpu), outputs);
    Tensor found = devices.to_cuda(want, outputs);
    matmul_backward_input(layer.dy, layer.w, want, {accumulate, 1}, devices.cpu);
    matmul_backward_input(layer.dy_there, layer.w_there, found, {accumulate, 1}, devices.cuda);
    Tensor term = filled(want.shape(), 0.0F, devices.cpu);
    matmul_backward_input(layer.dy, layer.w, term, {Accumulate::kOverwrite, 1}, devices.cpu);
    const bool is_rounded_twice = accumulate == Accumulate::kAdd && order == SumOrder::kFastest;
    CHECK(largest_error_of_sum(devices.to_cpu(found), doubles(want), doubles(term)) <
          (is_rounded_twice ? 2 : 1) * sum_tolerance(outputs, sizes.out));
  }
  SECTION("backward of the weight") {
    GradientSum want = float_sum(random_tensor(layer.w.shape(), "old dw", devices.cpu));
    GradientSum found = float_sum(devices.to_cuda(want.sum));
    matmul_backward_weight(layer.dy, layer.x, want, devices.cpu);
    matmul_backward_weight(layer.dy_there, layer.x_there, found, devices.cuda);
    CHECK(largest_error(found.sum, want.sum, devices) < sum_tolerance(DType::kFloat32, sizes.rows));
  }
}

TEST_CASE("A product on CUDA that overwrites reads nothing of what was there") {
  Devices devices;
  const std::int64_t in = GENERATE(0, 8);
  const Tensor x = devices.to_cuda(filled(Shape{2, in}, 1.0F, devices.cpu));
  const Tensor w = devices.to_cuda(filled(Shape{3, in}, 2.0F, devices.cpu));
  Tensor y =
      devices.to_cuda(filled(Shape{2, 3}, std::numeric_limits<float>::quiet_NaN(), devices.cpu));
  matmul_forward(x, w, y, 1, devices.cuda);
  CHECK(vector_of(devices.to_cpu(y)) == std::vector<float>(6, 2.0F * static_cast<float>(in)));
}

TEST_CASE("A product on CUDA has the same bits when it is taken again") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const Tensor x = devices.to_cuda(random_tensor(Shape{40, 520}, "x", devices.cpu), dtype);
  const Tensor w = devices.to_cuda(random_tensor(Shape{24, 520}, "w", devices.cpu), dtype);
  std::vector<Tensor> results;
  for (int i = 0; i < 3; ++i) {
    results.push_back(devices.empty(Shape{40, 24}, dtype));
    matmul_forward(x, w, results.back(), 1, devices.cuda);
  }
  CHECK(vector_of(devices.to_cpu(results[0])) == vector_of(devices.to_cpu(results[1])));
  CHECK(vector_of(devices.to_cpu(results[0])) == vector_of(devices.to_cpu(results[2])));
}

}  // namespace fathom::kernels
