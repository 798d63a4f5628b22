#include "parallel/comm/sums.h"

#include <cmath>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using namespace fathom::parallel;

TEST_CASE("every rank gets the number of rank 0") {
  for (const int num_ranks : {1, 2, 5}) {
    std::vector<std::int64_t> found(static_cast<std::size_t>(num_ranks));
    test::run_ranks(num_ranks, [&](Communicator& world, Stream&) {
      found[static_cast<std::size_t>(world.rank())] = from_rank_0(7 - 3 * world.rank(), world);
    });
    CHECK(found == std::vector<std::int64_t>(found.size(), 7));
  }
}

TEST_CASE("sums over ranks are those of all terms, on every rank") {
  for (const int num_ranks : {1, 2, 5}) {
    const auto size = static_cast<std::size_t>(num_ranks);
    std::vector<std::vector<std::int64_t>> integers(size);
    std::vector<std::vector<double>> exact(size);
    test::run_ranks(num_ranks, [&](Communicator& world, Stream&) {
      const std::int64_t rank = world.rank();
      const auto at = static_cast<std::size_t>(rank);
      integers[at] = sum_integers(std::vector<std::int64_t>{rank + 1, -rank, 7}, world);
      std::vector<ExactSum> sums(2);
      // 2^100 is there on every rank and taken away again: doubles would forget the rest.
      for (const double term : {std::ldexp(1.0, 100), 0.25, -std::ldexp(1.0, 100)}) {
        sums[0].add(term);
      }
      sums[1].add(static_cast<double>(rank));
      exact[at] = sum_exactly(sums, world);
    });
    const std::int64_t n = num_ranks;
    for (std::size_t rank = 0; rank < size; ++rank) {
      CHECK(
          (integers[rank] == std::vector<std::int64_t>{n * (n + 1) / 2, -n * (n - 1) / 2, 7 * n}));
      CHECK((exact[rank] == std::vector<double>{0.25 * static_cast<double>(n),
                                                0.5 * static_cast<double>(n * (n - 1))}));
    }
  }
}
