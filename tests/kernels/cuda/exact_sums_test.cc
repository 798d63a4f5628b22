#include "tests/kernels/exact_sums.h"

#include <bit>
#include <cmath>
#include <limits>

#include "core/rng.h"
#include "tests/kernels/cuda/devices.h"

namespace fathom::kernels {
namespace {

// Of all magnitudes that a float has, of both signs.
std::vector<float> spread(std::size_t count) {
  const RandomSource random(4, "spread");
  std::vector<float> x;
  for (std::size_t i = 0; i < count; ++i) {
    x.push_back(
        std::ldexp(random.normal(2 * i), static_cast<int>(random.below(2 * i + 1, 250)) - 140));
  }
  return x;
}

std::vector<std::int64_t> integers(const Tensor& x, std::int64_t first, std::int64_t stride,
                                   Stream& stream) {
  ExactSum before;
  before.add(-0x1p100);
  Tensor sum = tensor_of_sum(before, stream);
  add_exactly(x, first, stride, sum, stream);
  return to_host<std::int64_t>(sum, stream);
}

float scale_on(const Tensor& sums, const Tensor& counts, double max_norm, Stream& stream) {
  Tensor scale = Tensor::empty(Shape{1}, DType::kFloat32, stream);
  update_scale(sums, counts, max_norm, scale, stream);
  return to_host<float>(scale, stream)[0];
}

}  // namespace

TEST_CASE("add_exactly on CUDA has the integers of the CPU") {
  Devices devices;
  const auto count =
      GENERATE(std::int64_t{0}, std::int64_t{1}, std::int64_t{257}, std::int64_t{5003});
  const Tensor x = tensor_of(spread(static_cast<std::size_t>(count)), Shape{count}, devices.cpu);
  CHECK(integers(devices.to_cuda(x), 0, 1, devices.cuda) == integers(x, 0, 1, devices.cpu));
  std::vector<std::int64_t> bits;
  for (const float value : vector_of(x)) {
    bits.push_back(std::bit_cast<std::int64_t>(static_cast<double>(value) * 0x1.23456789abcdp-50));
  }
  if (count == 257) {
    bits[100] = std::bit_cast<std::int64_t>(std::numeric_limits<double>::infinity());
    bits[101] = std::bit_cast<std::int64_t>(0x1p128);
  }
  const Tensor doubles = tensor_of(bits, Shape{count}, devices.cpu);
  CHECK(integers(devices.to_cuda(doubles), 1, 3, devices.cuda) ==
        integers(doubles, 1, 3, devices.cpu));
}

TEST_CASE("update_scale on CUDA decides and clips as the CPU") {
  Devices devices;
  const RandomSource random(5, "squares");
  for (std::uint64_t i = 0; i < 40; ++i) {
    // What two ranks add up has carries that are yet to be passed on.
    ExactSum sum;
    sum.add(std::ldexp(1.0 + random.uniform(i), static_cast<int>(i * 4) - 80));
    std::vector<std::int64_t> rows;
    for (int row = 0; row < 2; ++row) {
      for (const std::int64_t integer : sum.to_integers()) {
        rows.push_back(2 * integer);
      }
    }
    rows.back() = i == 7 ? 1 : 0;
    const Tensor sums = tensor_of(rows, Shape{2, kExactSumIntegers}, devices.cpu);
    const Tensor counts = tensor_of<std::int64_t>({0, i == 11 ? 2 : 0}, Shape{2}, devices.cpu);
    const float want = scale_on(sums, counts, 1e-3, devices.cpu);
    const float found =
        scale_on(devices.to_cuda(sums), devices.to_cuda(counts), 1e-3, devices.cuda);
    INFO(i);
    CHECK(std::isnan(want) == (i == 7 || i == 11));
    CHECK(std::bit_cast<std::uint32_t>(found) ==
          (std::isnan(want) ? 0x7fffffffU : std::bit_cast<std::uint32_t>(want)));
  }
}

TEST_CASE("An AdamW step on CUDA with a scale of NaN leaves everything as it is") {
  Devices devices;
  const auto of = [&](float value) {
    return devices.to_cuda(filled(Shape{3001}, value, devices.cpu));
  };
  AdamWOptions options;
  options.learning_rate = 1.0;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  options.grad_scale = devices.to_cuda(filled(Shape{1}, nan, devices.cpu));
  Tensor weight = of(3.0F);
  Tensor m = of(2.0F);
  Tensor v = of(1.0F);
  adamw_step(options, of(nan), weight, weight, m, v, devices.cuda);
  CHECK(to_host<float>(weight, devices.cuda) == std::vector<float>(3001, 3.0F));
  CHECK(to_host<float>(m, devices.cuda) == std::vector<float>(3001, 2.0F));
  CHECK(to_host<float>(v, devices.cuda) == std::vector<float>(3001, 1.0F));
}

}  // namespace fathom::kernels
