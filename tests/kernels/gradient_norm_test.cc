#include "kernels/gradient_norm.h"

#include <bit>
#include <cmath>

#include "core/rng.h"
#include "kernels/elementwise.h"
#include "tests/kernels/exact_sums.h"
#include "tests/kernels/op_reference.h"

namespace fathom::kernels {
namespace {

// One add of the exact square per element.
ExactSum reference(const std::vector<float>& x) {
  ExactSum sum;
  for (const float value : x) {
    if (std::isfinite(value)) {
      sum.add(static_cast<double>(value) * static_cast<double>(value));
    }
  }
  return sum;
}

ExactSum summed(const std::vector<float>& x, Stream& stream, std::int64_t want_non_finite = 0) {
  ExactSum sum;
  std::int64_t num_non_finite = -1;
  sum_of_squares(tensor_of(x, Shape{static_cast<std::int64_t>(x.size())}, stream), sum,
                 num_non_finite, stream);
  CHECK(num_non_finite == want_non_finite);
  return sum;
}

float scale_of(const std::vector<double>& sums, const std::vector<std::int64_t>& counts,
               double max_norm) {
  Stream stream;
  Tensor rows = Tensor::empty(Shape{std::ssize(sums), kExactSumIntegers}, DType::kInt64, stream);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    ExactSum sum;
    sum.add(sums[i]);
    std::ranges::copy(sum.to_integers(), rows.mutable_data<std::int64_t>() +
                                             static_cast<std::ptrdiff_t>(i) * kExactSumIntegers);
  }
  Tensor scale = filled(Shape{1}, 9.0F, stream);
  update_scale(rows, tensor_of(counts, Shape{std::ssize(counts)}, stream), max_norm, scale, stream);
  return scale.data<float>()[0];
}

}  // namespace

TEST_CASE("sum_of_squares loses no bit, whatever the magnitudes in a block") {
  Stream stream;
  const std::size_t count = GENERATE(0, 1, 7, 4096, 9001);
  const auto [low, high] = GENERATE(std::pair{0, 0}, std::pair{-20, 4}, std::pair{-60, 10},
                                    std::pair{-80, -70}, std::pair{48, 56}, std::pair{-149, 60});
  INFO(count << " elements of 2^" << low << " to 2^" << high);
  const std::vector<float> x = spread(count, low, high);
  CHECK(summed(x, stream).to_integers() == reference(x).to_integers());
}

TEST_CASE("sum_of_squares is exact at the borders of its passes") {
  Stream stream;
  std::vector<float> x;
  for (int exponent = -149; exponent <= 63; ++exponent) {
    for (const float mantissa : {1.0F, 0x1.fffffep0F, 0x1.000002p0F, -0x1.555556p0F}) {
      x.push_back(std::ldexp(mantissa, exponent));
    }
  }
  x.push_back(0.0F);
  x.push_back(-0.0F);
  CHECK(summed(x, stream).to_integers() == reference(x).to_integers());
  for (const int gap : {35, 36, 37, 38}) {  // two magnitudes only, around the width of a pass
    const std::vector<float> two{0x1.fffffep3F, std::ldexp(0x1.fffffep0F, 3 - gap)};
    CHECK(summed(two, stream).to_integers() == reference(two).to_integers());
  }
}

TEST_CASE("sum_of_squares is exact where a whole block fills its doubles to the brim") {
  Stream stream;
  const RandomSource random(4, "brim");
  std::vector<float> alike;  // one magnitude, as near the bound of a pass as can be
  for (std::uint64_t i = 0; i < 4096; ++i) {
    alike.push_back(2.0F - static_cast<float>(random.uniform(i)) * 0x1p-5F);
  }
  CHECK(summed(alike, stream).to_integers() == reference(alike).to_integers());

  // (2^23 + 11)^2 = 121 modulo 2^8: 2^20 below the largest element, the last slice gets nearly half
  // a unit of the one before from each square, while the smallest element of the pass reaches down
  // to its last bit.
  for (const int smallest : {-35, -36, -37, -38}) {
    std::vector<float> x(4096, std::ldexp(0x1.000016p0F, -20));
    x[0] = 1.0F;
    x[1] = std::ldexp(0x1.fffffep0F, smallest);
    CHECK(summed(x, stream).to_integers() == reference(x).to_integers());
  }

  const std::vector<float> large(4096, 0x1.8p58F);  // their sum is beyond what one term may be
  CHECK(summed(large, stream).to_integers() == reference(large).to_integers());
}

TEST_CASE("sum_of_squares adds onto the sum it is given") {
  Stream stream;
  ExactSum sum;
  sum.add(2.5);
  std::int64_t num_non_finite = 0;
  sum_of_squares(tensor_of<float>({3.0F, 4.0F}, Shape{2}, stream), sum, num_non_finite, stream);
  CHECK(sum.value() == 27.5);
}

TEST_CASE("sum_of_squares counts what is not finite and leaves it out") {
  Stream stream;
  std::vector<float> x = spread(5000, -30, 3);
  x[0] = std::numeric_limits<float>::quiet_NaN();
  x[17] = std::numeric_limits<float>::infinity();
  x[4095] = -std::numeric_limits<float>::infinity();
  x[4999] = std::bit_cast<float>(0x7fffffffU);  // the NaN of largest bits
  x[20] = 1e-40F;
  x[21] = 0x1p60F;
  CHECK(summed(x, stream, 4).to_integers() == reference(x).to_integers());
}

TEST_CASE("A finite element whose square is beyond the exact range makes the sum NaN") {
  Stream stream;
  CHECK(std::isnan(summed({1.0F, 1e30F}, stream).value()));
}

TEST_CASE("sum_of_squares takes bfloat16") {
  Stream stream;
  const std::vector<float> x = spread(5001, -10, 3);
  Tensor halves = Tensor::empty(Shape{5001}, DType::kBFloat16, stream);
  convert(tensor_of(x, Shape{5001}, stream), halves, stream);
  Tensor rounded = Tensor::empty(Shape{5001}, DType::kFloat32, stream);
  convert(halves, rounded, stream);
  ExactSum sum;
  std::int64_t num_non_finite = 0;
  sum_of_squares(halves, sum, num_non_finite, stream);
  CHECK(sum.to_integers() == reference(vector_of(rounded)).to_integers());
}

TEST_CASE("sum_of_squares is the same on any number of threads and in any order") {
  const std::vector<float> x = spread(300001, -30, 3);
  const std::vector<float> reversed(x.rbegin(), x.rend());
  Stream serial;
  const ExactSum want = summed(x, serial);
  CHECK(summed(reversed, serial).to_integers() == want.to_integers());
  for (const int num_threads : {2, 4}) {
    Stream stream(Device{}, num_threads);
    CHECK(summed(x, stream).to_integers() == want.to_integers());
  }
}

TEST_CASE("Clipping scales to the largest norm and leaves smaller gradients alone") {
  CHECK(scale_of({16.0}, {0}, 1.0) == 0.25F);
  CHECK(scale_of({0.25, 1e9}, {0, 0}, 1.0) == 1.0F);
  CHECK(scale_of({16.0}, {0}, 0.0) == 1.0F);
  CHECK(scale_of({9e-20}, {}, 1e-10) == static_cast<float>(1e-10 / std::sqrt(9e-20)));
}

TEST_CASE("There is no update where a sum is not finite or something was left out") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(scale_of({nan}, {0}, 1.0)));
  CHECK(std::isnan(scale_of({1.0, 2.0, nan}, {0}, 1.0)));
  CHECK(std::isnan(scale_of({1.0}, {0, 3}, 1.0)));
  CHECK(std::isnan(scale_of({1.0}, {1}, 0.0)));
}

}  // namespace fathom::kernels
