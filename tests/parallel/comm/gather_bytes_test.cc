#include "parallel/comm/gather_bytes.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using namespace fathom::parallel;

namespace {

// Lengths around a word, around a round of 32 KiB, and nothing at all.
std::string bytes_of(int rank) {
  const std::vector<std::size_t> lengths{0, 7, 32768, 100003, 1};
  std::string bytes;
  for (std::size_t i = 0; i < lengths[static_cast<std::size_t>(rank) % lengths.size()]; ++i) {
    bytes += static_cast<char>(i * 31 + static_cast<std::size_t>(rank) * 7);
  }
  return bytes;
}

}  // namespace

TEST_CASE("the root, and it alone, gets what every rank gave") {
  for (const int num_ranks : {1, 2, 5}) {
    for (const int root : {0, num_ranks - 1}) {
      std::vector<std::vector<std::string>> received(static_cast<std::size_t>(num_ranks));
      test::run_ranks(num_ranks, [&](Communicator& world, Stream&) {
        received[static_cast<std::size_t>(world.rank())] =
            gather_bytes(bytes_of(world.rank()), root, world);
      });
      for (int rank = 0; rank < num_ranks; ++rank) {
        std::vector<std::string> expected;
        for (int from = 0; rank == root && from < num_ranks; ++from) {
          expected.push_back(bytes_of(from));
        }
        CHECK((received[static_cast<std::size_t>(rank)] == expected));
      }
    }
  }
}

TEST_CASE("every rank gets what the root gave") {
  for (const int root : {0, 1, 3}) {
    std::vector<std::string> received(4);
    test::run_ranks(4, [&](Communicator& world, Stream&) {
      received[static_cast<std::size_t>(world.rank())] =
          broadcast_bytes(bytes_of(world.rank()), root, world);
    });
    CHECK((received == std::vector<std::string>(4, bytes_of(root))));
  }
}

TEST_CASE("every rank gets what every rank gave") {
  std::vector<std::vector<std::string>> received(4);
  test::run_ranks(4, [&](Communicator& world, Stream&) {
    received[static_cast<std::size_t>(world.rank())] =
        all_gather_bytes(bytes_of(world.rank()), world);
  });
  const std::vector<std::string> expected{bytes_of(0), bytes_of(1), bytes_of(2), bytes_of(3)};
  CHECK((received == std::vector<std::vector<std::string>>(4, expected)));
}
