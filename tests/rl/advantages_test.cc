#include "rl/advantages.h"

#include <cmath>

#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

using Rewards = std::vector<std::optional<double>>;

}  // namespace

TEST_CASE("Advantages are deviations from the group's mean, in its standard deviations") {
  // mean 0.25, variance (0.75^2 + 3 * 0.25^2) / 4 = 0.1875; the second group: mean 3, std 2
  const Rewards rewards{1, 0, 0, 0, 1, 5, 5, 1};
  const GroupAdvantages advantages = group_advantages(rewards, {.group_size = 4});
  const double std = std::sqrt(0.1875);
  CHECK(advantages.values[0] == Approx(0.75 / std).epsilon(1e-15));
  CHECK(advantages.values[1] == Approx(-0.25 / std).epsilon(1e-15));
  CHECK(std::vector(advantages.values.begin() + 4, advantages.values.end()) ==
        std::vector{-1.0, 1.0, 1.0, -1.0});
  CHECK(advantages.has_spread == std::vector{true, true});
  const GroupAdvantages centred =
      group_advantages(rewards, {.group_size = 4, .divide_by_std = false});
  CHECK(centred.values == std::vector{0.75, -0.25, -0.25, -0.25, -2.0, 2.0, 2.0, -2.0});
}

TEST_CASE("A group without spread has advantages of exactly 0") {
  // 0.1 + 0.1 + 0.1 is not 0.3: the mean of equal rewards may differ from them.
  const GroupAdvantages advantages =
      group_advantages(Rewards{0.1, 0.1, 0.1, 0, 0, 0}, {.group_size = 3});
  CHECK(advantages.values == std::vector<double>(6, 0.0));
  CHECK(advantages.has_spread == std::vector{false, false});
}

TEST_CASE("Rewards that differ by the rounding of their sums have no spread") {
  // Weights 0.1, 0.2 and 0.3, parts (1, 1, 0) and (0, 0, 1); and a sum that should be 0.
  REQUIRE(0.1 + 0.2 != 0.3);
  REQUIRE(0.1 + 0.2 - 0.3 != 0.0);
  for (const Rewards& rewards :
       {Rewards{0.1 + 0.2, 0.3, 0.3, 0.3}, Rewards{0.1 + 0.2 - 0.3, 0.0, 0.0, 0.0},
        Rewards{1e-200, 0.0, 0.0, 0.0}, Rewards{1e9, 1e9 + 0.5, 1e9, 1e9}}) {
    CAPTURE(rewards[0].value());
    CHECK_FALSE(have_spread(rewards));
    for (const bool divides : {true, false}) {
      const GroupAdvantages advantages =
          group_advantages(rewards, {.group_size = 4, .divide_by_std = divides});
      CHECK(advantages.values == std::vector<double>(4, 0.0));
      CHECK(advantages.has_spread == std::vector{false});
    }
  }
  CHECK(have_spread(Rewards{1e-8, 0.0, std::nullopt}));
  CHECK_FALSE(have_spread(Rewards{1.0, std::nullopt}));
  CHECK_FALSE(have_spread(Rewards{std::nullopt}));
  CHECK_FALSE(have_spread({}));
}

TEST_CASE("Rewards of any size have advantages that are numbers") {
  const GroupAdvantages huge =
      group_advantages(Rewards{1e308, 1e308, -1e308, -1e308}, {.group_size = 4});
  CHECK(huge.values == std::vector{1.0, 1.0, -1.0, -1.0});
  const GroupAdvantages centred = group_advantages(Rewards{1e308, 1e308, -1e308, -1e308},
                                                   {.group_size = 4, .divide_by_std = false});
  CHECK(centred.values == std::vector{1e308, 1e308, -1e308, -1e308});
}

TEST_CASE("Samples without a verdict are no part of their group") {
  const Rewards rewards{1, std::nullopt, 0, std::nullopt, std::nullopt, 1};
  const GroupAdvantages advantages = group_advantages(rewards, {.group_size = 3});
  CHECK(advantages.values == std::vector{1.0, 0.0, -1.0, 0.0, 0.0, 0.0});
  CHECK(advantages.has_spread == std::vector{true, false});
}

TEST_CASE("Groups of one, broken groups and rewards that are no numbers are refused") {
  CHECK_THROWS_WITH(group_advantages(Rewards{1, 0}, {.group_size = 1}),
                    Catch::Contains("at least 2 are needed"));
  CHECK_THROWS_AS(group_advantages(Rewards{1, 0}, {.group_size = 0}), ConfigError);
  CHECK_THROWS_AS(group_advantages(Rewards{1, 0, 1}, {.group_size = 2}), InternalError);
  CHECK_THROWS_AS(group_advantages(Rewards{1, NAN}, {.group_size = 2}), InternalError);
  CHECK(group_advantages({}, {.group_size = 2}).values.empty());
}

}  // namespace fathom::rl
