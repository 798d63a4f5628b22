#include "core/normal_distribution.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/rng.h"
#include "tests/support/catch.h"

namespace fathom {
namespace {

// The error of natural_logarithm(x) in units in the last place of the true value.
double error_in_ulps(double x) {
  const long double want = std::log(static_cast<long double>(x));
  int exponent = 0;
  std::frexp(want, &exponent);
  return static_cast<double>(std::abs(natural_logarithm(x) - want) /
                             std::ldexp(1.0L, exponent - 53));
}

}  // namespace

TEST_CASE("The logarithm is right to less than a unit in the last place") {
  const RandomSource random(1, "logarithm");
  double largest = 0;
  for (std::uint64_t i = 0; i < 300000; ++i) {
    const double u = random.uniform(i);  // of probabilities, near 1, and of all sizes
    largest = std::max({largest, error_in_ulps(u), error_in_ulps(0.075 * u),
                        error_in_ulps(1.0 + 0x1p-20 * (u - 0.5)),
                        error_in_ulps(std::ldexp(u + 1.0, static_cast<int>(i % 2000) - 1000))});
  }
  CHECK(largest < 1.0);
  CHECK(natural_logarithm(1.0) == 0.0);
  CHECK(error_in_ulps(0x1p-53) < 1.0);  // the smallest uniform number
  CHECK(error_in_ulps(std::nextafter(1.0, 0.0)) < 1.0);
  CHECK(error_in_ulps(std::sqrt(0.5)) < 1.0);
  CHECK(error_in_ulps(std::nextafter(std::sqrt(0.5), 0.0)) < 1.0);
}

TEST_CASE("The inverse of the normal distribution function has the values of its paper") {
  // Wichura (1988), section "Test data".
  const auto is_near = [](double found, double want) {
    return std::abs(found - want) <= 4e-16 * std::abs(want);
  };
  CHECK(is_near(inverse_normal_distribution(0.25), -0.6744897501960817));
  CHECK(is_near(inverse_normal_distribution(0.001), -3.090232306167814));
  CHECK(is_near(inverse_normal_distribution(1e-20), -9.262340089798408));
  CHECK(inverse_normal_distribution(0.5) == 0.0);
  for (const double p : {0.0625, 0x1p-10, 0x1p-30, 0x1p-40}) {
    CHECK(inverse_normal_distribution(1.0 - p) == -inverse_normal_distribution(p));
  }
}

}  // namespace fathom
