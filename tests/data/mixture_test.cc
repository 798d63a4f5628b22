#include "data/mixture.h"

#include <cmath>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::data {
namespace {

TEST_CASE("Mixture keeps each source within one sample of its share at any time") {
  const std::vector<double> weights = {5.0, 3.0, 1.5, 0.5};
  const Mixture mixture(weights);
  std::vector<std::int64_t> taken(weights.size(), 0);
  for (std::int64_t sample = 0; sample < 200'000; ++sample) {
    const Mixture::Place place = mixture.at(sample);
    auto& count = taken[static_cast<std::size_t>(place.source)];
    REQUIRE(place.index == count);  // every sample of a source once, in order
    ++count;
    if (sample % 997 == 0) {
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const double share = weights[i] / 10.0 * static_cast<double>(sample + 1);
        // One for taking turns, and what rounding to 65,536ths shifts.
        CHECK(std::abs(static_cast<double>(taken[i]) - share) <
              2.0 + static_cast<double>(sample) / 65536.0);
      }
    }
  }
}

TEST_CASE("Mixture of one source is that source, and the rarest one is not left out") {
  const Mixture one({0.3});
  CHECK(one.at(123'456'789).index == 123'456'789);
  const Mixture rare({1.0, 1e-9});
  CHECK(rare.samples_per_round() == std::vector<std::int64_t>{65535, 1});
  const Mixture thirds({1.0, 1.0, 1.0});
  CHECK(thirds.samples_per_round()[0] + thirds.samples_per_round()[1] +
            thirds.samples_per_round()[2] ==
        65536);
}

TEST_CASE("Weights that mean nothing are refused") {
  CHECK_THROWS_AS(Mixture({}), ConfigError);
  CHECK_THROWS_AS(Mixture({1.0, 0.0}), ConfigError);
  CHECK_THROWS_AS(Mixture({1.0, -1.0}), ConfigError);
  CHECK_THROWS_AS(Mixture({1.0, std::nan("")}), ConfigError);
  CHECK_THROWS_AS(Mixture({INFINITY}), ConfigError);
}

}  // namespace
}  // namespace fathom::data
