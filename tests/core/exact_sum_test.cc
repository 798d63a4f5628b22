#include "core/exact_sum.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/rng.h"
#include "tests/support/catch.h"

using namespace fathom;

namespace {

__extension__ using Int128 = __int128;

ExactSum sum_of(const std::vector<double>& terms) {
  ExactSum sum;
  for (const double term : terms) {
    sum.add(term);
  }
  return sum;
}

void shuffle(std::vector<double>& terms, std::uint64_t seed) {
  const RandomSource random(seed, "test/shuffle");
  for (std::size_t i = terms.size(); i > 1; --i) {
    std::swap(terms[i - 1], terms[random.below(i, i)]);
  }
}

// Signed terms whose magnitudes spread over 2^-100 ... 2^100.
std::vector<double> wild_terms(std::size_t count, std::uint64_t seed) {
  const RandomSource random(seed, "test/terms");
  std::vector<double> terms(count);
  for (std::size_t i = 0; i < count; ++i) {
    const int exponent = static_cast<int>(random.below(2 * i, 200)) - 100;
    terms[i] = std::ldexp(random.uniform(2 * i + 1) - 0.5, exponent);
  }
  return terms;
}

}  // namespace

TEST_CASE("an exact sum equals a 128-bit fixed-point sum, rounded once") {
  // Multiples of 2^-40 below 2^50 in magnitude: 10^5 of them fit into 128 bits without rounding.
  const RandomSource random(7, "test/fixed_point");
  ExactSum sum;
  Int128 reference = 0;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const auto mantissa = static_cast<std::int64_t>(random.bits(i)) >> 11;  // 53 bits
    const int shift = static_cast<int>(random.below(i + 1000000, 37));
    reference += static_cast<Int128>(mantissa) << shift;
    sum.add(std::ldexp(static_cast<double>(mantissa), shift - 40));
    if (i % 997 == 0) {
      // The compiler's conversion of a 128-bit integer rounds to nearest, ties to even.
      REQUIRE(sum.value() == std::ldexp(static_cast<double>(reference), -40));
    }
  }
}

TEST_CASE("the order of the terms does not matter") {
  std::vector<double> terms = wild_terms(5000, 3);
  const double expected = sum_of(terms).value();
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    shuffle(terms, seed);
    REQUIRE(sum_of(terms).value() == expected);
  }
}

TEST_CASE("huge terms that cancel leave the small ones exact") {
  CHECK(sum_of({0x1p127, 0x1p-190, -0x1p127}).value() == 0x1p-190);
  CHECK(sum_of({0x1p100, 1.0, -0x1p100, 0x1p-60}).value() == 1.0);
  CHECK(sum_of({1e30, 1.5, -1e30, -1.25}).value() == 0.25);
  CHECK(sum_of({}).value() == 0.0);
  CHECK(sum_of({-0x1p-192}).value() == -0x1p-192);
  CHECK(sum_of({-1.0, -0x1p-100, 1.0}).value() == -0x1p-100);
}

TEST_CASE("value rounds to nearest, ties to even") {
  CHECK(sum_of({1.0, 0x1p-53}).value() == 1.0);
  CHECK(sum_of({1.0, 0x1p-53, 0x1p-180}).value() == 1.0 + 0x1p-52);
  CHECK(sum_of({1.0 + 0x1p-52, 0x1p-53}).value() == 1.0 + 0x1p-51);
  CHECK(sum_of({-1.0, -0x1p-53, -0x1p-180}).value() == -1.0 - 0x1p-52);
  CHECK(sum_of({2.0 - 0x1p-52, 0x1p-53}).value() == 2.0);
}

TEST_CASE("parts below 2^-192 are dropped, each term by itself") {
  CHECK(sum_of({0x1p-193, 0x1p-193}).value() == 0.0);
  CHECK(sum_of({0x1.8p-192}).value() == 0x1p-192);
  CHECK(sum_of({-0x1.8p-192}).value() == -0x1p-192);
  CHECK(sum_of({std::numeric_limits<double>::denorm_min(), 1e-300}).value() == 0.0);
}

TEST_CASE("a term out of range or not finite makes the sum NaN, whatever follows") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {0x1p128, -0x1p128, infinity, -infinity, std::nan("")}) {
    CHECK(std::isnan(sum_of({1.0, bad, 2.0}).value()));
  }
  CHECK(sum_of({0x1.fffffffffffffp127}).value() == 0x1.fffffffffffffp127);
  CHECK(sum_of({0x1p127, 0x1p127, 0x1p127, 0x1p127}).value() == 0x1p129);
}

TEST_CASE("partial sums of ranks add up to the same bits through integers") {
  const std::vector<double> terms = wild_terms(4000, 11);
  const double expected = sum_of(terms).value();
  for (const std::size_t num_ranks : {1, 2, 3, 7, 64}) {
    std::vector<ExactSum> partial(num_ranks);
    for (std::size_t i = 0; i < terms.size(); ++i) {
      partial[(i * 7919) % num_ranks].add(terms[i]);
    }
    std::array<std::int64_t, ExactSum::kNumLimbs + 1> reduced{};
    ExactSum added;
    for (const ExactSum& sum : partial) {
      const auto integers = sum.to_integers();
      std::transform(reduced.begin(), reduced.end(), integers.begin(), reduced.begin(),
                     std::plus<>());
      added.add(sum);
    }
    REQUIRE(ExactSum::from_integers(reduced).value() == expected);
    REQUIRE(added.value() == expected);
  }
}

TEST_CASE("an invalid term of one rank is seen by all") {
  ExactSum broken;
  broken.add(std::nan(""));
  auto integers = broken.to_integers();
  const auto others = sum_of({1.0}).to_integers();
  std::transform(integers.begin(), integers.end(), others.begin(), integers.begin(), std::plus<>());
  CHECK(std::isnan(ExactSum::from_integers(integers).value()));
}

TEST_CASE("sums of sums stay exact far beyond 2^30 terms") {
  // Doubling 40 times is 2^40 terms of the largest possible limbs.
  ExactSum sum;
  const double term = std::ldexp(0x1.fffffffffffffp0, -31);
  sum.add(term);
  for (int i = 0; i < 40; ++i) {
    const ExactSum copy = sum;
    sum.add(copy);
  }
  CHECK(sum.value() == std::ldexp(term, 40));
}
