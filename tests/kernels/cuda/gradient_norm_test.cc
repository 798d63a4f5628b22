#include "kernels/gradient_norm.h"

#include <bit>
#include <limits>

#include "tests/kernels/cuda/devices.h"
#include "tests/kernels/exact_sums.h"

namespace fathom::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The numbers of the sum, and how many elements are not finite.
struct Squares {
  std::vector<std::int64_t> numbers;
  std::int64_t num_non_finite;
  bool operator==(const Squares&) const = default;
};

// Of parts that are added to one sum, after another one.
Squares squares_of(const std::vector<Tensor>& parts, Stream& stream) {
  ExactSum before;
  before.add(0x1.8p-60);
  Tensor sum = tensor_of_sum(before, stream);
  Tensor count = Tensor::zeros(Shape{1}, DType::kInt64, stream);
  for (const Tensor& part : parts) {
    sum_of_squares(part, sum, count, stream);
  }
  return {to_host<std::int64_t>(sum, stream), to_host<std::int64_t>(count, stream)[0]};
}

// Elements from `first` on of both devices have the same sum, number by number.
void check_squares(const std::vector<float>& x, std::int64_t first, DType dtype, Devices& devices) {
  const auto count = static_cast<std::int64_t>(x.size());
  const Tensor here = devices.rounded(tensor_of(x, Shape{count}, devices.cpu), dtype);
  const Tensor there = devices.to_cuda(here, dtype);
  CHECK(squares_of({there.narrow(first, count)}, devices.cuda) ==
        squares_of({here.narrow(first, count)}, devices.cpu));
}

float scale_on(const Tensor& sums, const Tensor& counts, double max_norm, Stream& stream) {
  Tensor scale = Tensor::empty(Shape{1}, DType::kFloat32, stream);
  update_scale(sums, counts, max_norm, scale, stream);
  return to_host<float>(scale, stream)[0];
}

}  // namespace

TEST_CASE("sum_of_squares on CUDA loses no bit, whatever the magnitudes") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  const std::int64_t first = GENERATE(0, 1);
  const std::size_t count = GENERATE(1, 7, 4096, 9001, 70003);
  const auto [low, high] = GENERATE(std::pair{0, 0}, std::pair{-20, 4}, std::pair{-60, 10},
                                    std::pair{-100, -70}, std::pair{48, 66}, std::pair{-149, 60});
  INFO(count << " elements of 2^" << low << " to 2^" << high << " from " << first);
  check_squares(spread(count, low, high), first, dtype, devices);
}

TEST_CASE("sum_of_squares on CUDA is exact at every exponent and around the width of a window") {
  Devices devices;
  std::vector<float> x{0.0F, -0.0F};
  for (int exponent = -149; exponent <= 63; ++exponent) {
    for (const float mantissa : {1.0F, 0x1.fffffep0F, 0x1.000002p0F, -0x1.555556p0F}) {
      x.push_back(std::ldexp(mantissa, exponent));
      check_squares({x.back()}, 0, DType::kFloat32, devices);
    }
  }
  check_squares(x, 0, DType::kFloat32, devices);
  for (int gap = 18; gap <= 26; ++gap) {
    check_squares({0x1.fffffep3F, std::ldexp(0x1.fffffep0F, 3 - gap)}, 0, DType::kFloat32, devices);
  }
}

// A thread's first elements, 1, set its window, which the others then fill to the brim; every
// fourth reaches down to the last bit of the window, or below it.
TEST_CASE("sum_of_squares on CUDA is exact where a thread fills its doubles") {
  Devices devices;
  constexpr std::size_t kFirst = 4096;  // of all threads
  const int lowest = GENERATE(-23, -22, -21, -20, -19, 0);
  // The largest that the window takes; or (2^23 + 17)^2 = 33 modulo 2^6, of which the lower part
  // has nearly as much as it can have, always of one sign.
  const float brim = GENERATE(0x1.fffffep2F, 0x1.000022p0F);
  std::vector<float> x(8 * kFirst, brim);
  std::fill_n(x.begin(), kFirst, 1.0F);
  for (std::size_t i = kFirst; i < x.size(); i += 4) {
    x[i] = std::ldexp(0x1.fffffep0F, lowest);
  }
  check_squares(x, 0, DType::kFloat32, devices);
}

TEST_CASE("sum_of_squares on CUDA is exact where threads move their sums many times") {
  Devices devices;
  std::vector<float> x = spread(4099, -30, 3);
  constexpr std::size_t kCount = 11'000'000;
  x.reserve(kCount);
  for (std::size_t i = 4099; i < kCount; ++i) {
    x.push_back(x[i - 4099]);
  }
  check_squares(x, 0, DType::kFloat32, devices);
}

TEST_CASE("sum_of_squares on CUDA does not show how elements are cut into calls") {
  Devices devices;
  const Tensor x = devices.to_cuda(tensor_of(spread(20'000, -90, 30), Shape{20'000}, devices.cpu));
  const Squares whole = squares_of({x}, devices.cuda);
  CHECK(squares_of({x.narrow(0, 1), x.narrow(1, 1), x.narrow(1, 7003), x.narrow(7003, 20'000)},
                   devices.cuda) == whole);
  CHECK(squares_of({x.narrow(9000, 20'000), x.narrow(0, 9000)}, devices.cuda) == whole);
}

TEST_CASE("sum_of_squares on CUDA counts what is not finite and leaves it out") {
  Devices devices;
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  std::vector<float> x = spread(9001, -30, 3);
  x[0] = std::numeric_limits<float>::quiet_NaN();
  x[17] = kInfinity;
  x[4095] = -kInfinity;
  x[9000] = std::bit_cast<float>(0x7fffffffU);  // the NaN of largest bits
  x[20] = 1e-40F;
  x[21] = 0x1p63F;
  check_squares(x, 0, dtype, devices);
  const Tensor there = devices.to_cuda(tensor_of(x, Shape{9001}, devices.cpu), dtype);
  CHECK(squares_of({there}, devices.cuda).num_non_finite == 4);
}

TEST_CASE("A finite element of 2^64 makes the sum NaN on CUDA as well") {
  Devices devices;
  const float large = GENERATE(0x1p64F, -0x1.fffffep127F);
  const std::vector<float> x{1.0F, large, large};
  check_squares(x, 0, DType::kFloat32, devices);
  ExactSum sum;
  std::int64_t num_non_finite = -1;
  sum_of_squares(devices.to_cuda(tensor_of(x, Shape{3}, devices.cpu)), sum, num_non_finite,
                 devices.cuda);
  CHECK(std::isnan(sum.value()));
  CHECK(num_non_finite == 0);
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

}  // namespace fathom::kernels
