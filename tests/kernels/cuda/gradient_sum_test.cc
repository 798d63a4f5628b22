#include "kernels/gradient_sum.h"

#include "tests/kernels/cuda/devices.h"

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

}  // namespace fathom::kernels
