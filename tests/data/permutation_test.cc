#include "data/permutation.h"

#include <set>
#include <vector>

#include "tests/support/catch.h"

namespace fathom::data {
namespace {

TEST_CASE("IndexPermutation visits every index once") {
  for (std::int64_t size = 1; size < 200; ++size) {
    const IndexPermutation permutation(size, RandomSource(5, "test"));
    std::set<std::int64_t> seen;
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t entry = permutation(i);
      CHECK(entry >= 0);
      CHECK(entry < size);
      seen.insert(entry);
    }
    CHECK(static_cast<std::int64_t>(seen.size()) == size);
  }
}

TEST_CASE("The inverse of an IndexPermutation finds each entry's index") {
  for (const std::int64_t size : {1L, 2L, 3L, 7L, 100L, 9'973L, 10'000L}) {
    const IndexPermutation permutation(size, RandomSource(6, "test"));
    for (std::int64_t i = 0; i < size; ++i) {
      CHECK(permutation.inverse(permutation(i)) == i);
    }
  }
  constexpr std::int64_t kLarge = (std::int64_t{1} << 50) + 5;
  const IndexPermutation permutation(kLarge, RandomSource(7, "test"));
  for (std::int64_t i = kLarge - 100; i < kLarge; ++i) {
    CHECK(permutation.inverse(permutation(i)) == i);
    CHECK(permutation(permutation.inverse(i)) == i);
  }
}

TEST_CASE("IndexPermutation sends each index everywhere equally often") {
  // 5,000 permutations of 20: each of the 400 counts is binomial around 250, standard
  // deviation 15.4.
  constexpr std::int64_t kSize = 20;
  std::vector<int> counts(kSize * kSize, 0);
  for (std::uint64_t seed = 0; seed < 5000; ++seed) {
    const IndexPermutation permutation(kSize, RandomSource(seed, "test"));
    for (std::int64_t i = 0; i < kSize; ++i) {
      ++counts[static_cast<std::size_t>(i * kSize + permutation(i))];
    }
  }
  for (const int count : counts) {
    CHECK(count > 250 - 6 * 16);
    CHECK(count < 250 + 6 * 16);
  }
}

TEST_CASE("IndexPermutation sends two neighbours to any two places equally often") {
  // 38,000 permutations of 20, 380 ordered pairs: each count is binomial around 100, standard
  // deviation 10.
  constexpr std::int64_t kSize = 20;
  std::vector<int> counts(kSize * kSize, 0);
  for (std::uint64_t seed = 0; seed < 38'000; ++seed) {
    const IndexPermutation permutation(kSize, RandomSource(seed, "test"));
    ++counts[static_cast<std::size_t>(permutation(6) * kSize + permutation(7))];
  }
  for (std::int64_t pair = 0; pair < kSize * kSize; ++pair) {
    const int count = counts[static_cast<std::size_t>(pair)];
    const bool is_possible = pair / kSize != pair % kSize;
    CHECK(count >= (is_possible ? 100 - 60 : 0));
    CHECK(count <= (is_possible ? 100 + 60 : 0));
  }
}

TEST_CASE("Neighbours do not stay neighbours, also at sizes that no table holds") {
  const IndexPermutation permutation(std::int64_t{1} << 40, RandomSource(1, "test"));
  int num_near = 0;
  for (std::int64_t i = 0; i < 1000; ++i) {
    const std::int64_t distance = permutation(i + 1) - permutation(i);
    num_near += distance > -(1 << 20) && distance < (1 << 20) ? 1 : 0;
  }
  CHECK(num_near <= 2);
}

}  // namespace
}  // namespace fathom::data
