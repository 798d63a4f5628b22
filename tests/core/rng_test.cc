#include "core/rng.h"

#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include "tests/support/catch.h"

using namespace fathom;

namespace {

using Words = std::array<std::uint32_t, 4>;

double normal_distribution(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

}  // namespace

TEST_CASE("Philox4x32-10 gives the known answers of its authors") {
  CHECK(philox({0, 0}, {0, 0, 0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0xa4093822, 0x299f31d0}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("seed, purpose and index each change the number, and nothing else does") {
  const RandomSource source(1, "init/a");
  CHECK(source.bits(5) == RandomSource(1, "init/a").bits(5));
  std::set<std::uint64_t> distinct;
  for (const std::uint64_t seed : {0ULL, 1ULL, 1ULL << 32, 1ULL << 63}) {
    for (const char* purpose : {"", "init/a", "init/b", "data/shuffle"}) {
      for (const std::uint64_t index : {0ULL, 1ULL, 1ULL << 32, ~0ULL}) {
        distinct.insert(RandomSource(seed, purpose).bits(index));
      }
    }
  }
  CHECK(distinct.size() == 4 * 4 * 4);
}

TEST_CASE("numbers drawn today are drawn for ever: a checkpoint's data order depends on them") {
  const RandomSource source(1234, "data/shuffle");
  CHECK(source.bits(0) == 0x6aa41c915b1624bU);
  CHECK(source.bits(1) == 0xd58abeb23120414bU);
}

TEST_CASE("normal numbers of today are those for ever, to the last bit: initial weights are") {
  const RandomSource source(1234, "init/golden");
  CHECK(source.normal(0) == -0x1.2af36ap-4F);
  CHECK(source.normal(1) == 0x1.0f27p+0F);
  CHECK(source.normal(869843) == -0x1.2a2ecep+2F);  // the smallest and the largest of a million
  CHECK(source.normal(626962) == 0x1.32208ep+2F);
  CHECK(source.normal(38179191243) == 0x1.ac93a4p+2F);  // by the polynomials of the far tail
  std::uint64_t hash = 0xcbf29ce484222325U;             // FNV-1a over words
  for (std::uint64_t i = 0; i < 1000000; ++i) {
    hash = (hash ^ std::bit_cast<std::uint32_t>(source.normal(i))) * 0x100000001b3U;
  }
  CHECK(hash == 0xc8c4868ec4a88495U);
}

TEST_CASE("uniform numbers lie inside (0, 1), with the moments of the uniform distribution") {
  const RandomSource source(3, "test/uniform");
  const int count = 200000;
  double sum = 0;
  double squares = 0;
  double smallest = 1;
  double largest = 0;
  for (int i = 0; i < count; ++i) {
    const double u = source.uniform(static_cast<std::uint64_t>(i));
    sum += u;
    squares += u * u;
    smallest = std::min(smallest, u);
    largest = std::max(largest, u);
  }
  CHECK(smallest > 0);
  CHECK(largest < 1);
  CHECK(sum / count == Approx(0.5).margin(0.003));  // 4.6 standard errors
  CHECK(squares / count == Approx(1.0 / 3.0).margin(0.003));
}

TEST_CASE("normal is the inverse of the normal distribution function at the uniform number") {
  const RandomSource source(4, "test/normal");
  double largest_error = 0;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const double u = source.uniform(i);
    const double x = source.normal(i);
    // The distribution function at x, whose rounding to float is worth density(x) * |x| * 2^-24.
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
    const double tolerance = density * (std::abs(x) + 1e-30) * 0x1p-24 + 1e-15;
    largest_error = std::max(largest_error, std::abs(normal_distribution(x) - u) / tolerance);
  }
  CHECK(largest_error < 1.01);
}

TEST_CASE("normal numbers have the moments of N(0, 1)") {
  const RandomSource source(5, "test/moments");
  const int count = 200000;
  double moments[4] = {};
  for (int i = 0; i < count; ++i) {
    const double x = source.normal(static_cast<std::uint64_t>(i));
    moments[0] += x / count;
    moments[1] += x * x / count;
    moments[2] += x * x * x / count;
    moments[3] += x * x * x * x / count;
  }
  CHECK(moments[0] == Approx(0.0).margin(0.01));
  CHECK(moments[1] == Approx(1.0).margin(0.015));
  CHECK(moments[2] == Approx(0.0).margin(0.04));
  CHECK(moments[3] == Approx(3.0).margin(0.12));
}

TEST_CASE("below reaches every value under the bound about equally often") {
  const RandomSource source(6, "test/below");
  std::vector<int> counts(7, 0);
  for (std::uint64_t i = 0; i < 70000; ++i) {
    ++counts.at(source.below(i, 7));
  }
  for (const int count : counts) {
    CHECK(std::abs(count - 10000) < 500);
  }
  CHECK(source.below(0, 1) == 0);
}
