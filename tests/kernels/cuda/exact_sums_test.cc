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

}  // namespace fathom::kernels
