#include "data/best_fit.h"

#include <numeric>

#include "core/rng.h"
#include "tests/support/catch.h"

namespace fathom::data {
namespace {

using Bins = std::vector<std::vector<std::int64_t>>;

TEST_CASE("Best fit takes the largest first, each into the fullest bin with room for it") {
  // 5 opens a bin (room 1), 4 another (room 2), 3 another (room 3); 2 fills the second, 1 the
  // first.
  CHECK(pack_best_fit(std::vector<std::int64_t>{3, 5, 2, 4, 1}, 6) == Bins{{0}, {1, 4}, {2, 3}});
  CHECK(pack_best_fit(std::vector<std::int64_t>{2, 2, 2, 2}, 4) == Bins{{0, 1}, {2, 3}});
  CHECK(pack_best_fit(std::vector<std::int64_t>{7}, 7) == Bins{{0}});
  CHECK(pack_best_fit({}, 7).empty());
}

TEST_CASE("Best fit packs every item once and no bin beyond its capacity") {
  const RandomSource random(5, "sizes");
  std::vector<std::int64_t> sizes(1000);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    sizes[i] = 1 + static_cast<std::int64_t>(random.below(i, 64));
  }
  std::vector<int> times(sizes.size(), 0);
  const Bins bins = pack_best_fit(sizes, 64);
  for (const auto& bin : bins) {
    std::int64_t size = 0;
    for (const std::int64_t item : bin) {
      size += sizes[static_cast<std::size_t>(item)];
      ++times[static_cast<std::size_t>(item)];
    }
    CHECK(size <= 64);
  }
  CHECK(times == std::vector<int>(sizes.size(), 1));
  // Large and small items match up: little is left over.
  const auto total = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  CHECK(std::ssize(bins) * 64 * 90 <= total * 100);
}

}  // namespace
}  // namespace fathom::data
