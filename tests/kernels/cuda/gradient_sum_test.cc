#include "kernels/gradient_sum.h"

#include "tests/kernels/cuda/devices.h"
#include "tests/kernels/gradient_operations.h"

namespace fathom::kernels {

TEST_CASE("An integer sum becomes a float32 with one rounding on CUDA, in place too") {
  Devices devices;
  const std::int64_t count = GENERATE(0, 1, 256, 1000, 5003);
  const RandomSource random(2, "sums");
  std::vector<std::int64_t> sums;
  std::vector<float> want;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = static_cast<std::int64_t>(random.bits(static_cast<std::uint64_t>(i)));
    // The first would lie on a tie of float32 if it were rounded to double before.
    sums.push_back(i == 0 ? (std::int64_t{1} << 60) + (std::int64_t{1} << 36) + 1
                          : bits >> (i % 60));
    // 64 bits of mantissa: the sum is exact.
    want.push_back(std::ldexp(static_cast<float>(static_cast<long double>(sums.back())), -56));
  }
  const Tensor sum = devices.to_cuda(tensor_of(sums, Shape{count}, devices.cpu));
  Tensor apart = devices.empty(Shape{count}, DType::kFloat32);
  round_gradient(sum, 56, apart, devices.cuda);
  CHECK(to_host<float>(apart, devices.cuda) == want);
  Tensor in_place = sum.view_as(DType::kFloat32, Shape{count});
  round_gradient(sum, 56, in_place, devices.cuda);
  CHECK(to_host<float>(in_place, devices.cuda) == want);
}

TEST_CASE("An empty sum on CUDA becomes what zeros become, whatever the memory holds") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  // Multiples of 8, which bfloat16 has tensor cores for: so many rows and so few tiles that a block
  // has an odd number of tiles without rows before a round of panels.
  const auto [in, out] = GENERATE(std::pair{37, 109}, std::pair{136, 136});
  const std::int64_t num_rows = GENERATE(0, 24, 600);
  const auto there = [&](const Tensor& tensor, bool is_activation) {
    return devices.to_cuda(tensor, is_activation ? dtype : DType::kFloat32);
  };
  for (const GradientOperation& operation :
       gradient_operations(num_rows, in, out, there, devices.cpu)) {
    INFO(operation.name << " of " << num_rows << " rows, " << in << " to " << out);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    GradientSum want = float_sum(devices.to_cuda(filled(operation.shape, 0.0F, devices.cpu)));
    GradientSum found = float_sum(devices.to_cuda(filled(operation.shape, nan, devices.cpu)));
    found.is_empty = true;
    for (int i = 0; i < 2; ++i) {
      operation.add(want, devices.cuda);
      operation.add(found, devices.cuda);
      CHECK_FALSE(found.is_empty);
      // Sums of up to 1200 products, which a library may take in another order.
      CHECK(largest_error(found.sum, devices.to_cpu(want.sum), devices) < 1e-4);
    }
  }
}

}  // namespace fathom::kernels
