#include "cli/together.h"

#include <string>
#include <thread>
#include <vector>

#include "cli/exit_code.h"
#include "core/error.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/catch.h"

namespace fathom::cli {
namespace {

// What each of `size` ranks throws from prepare_together(): "<exit code> <message>", or "none".
std::vector<std::string> endings(int size, const std::function<void(int)>& work) {
  auto world = parallel::make_thread_world(size);
  std::vector<std::string> result(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto index = static_cast<std::size_t>(rank);
      try {
        prepare_together(*world[index], [&] { work(rank); });
        result[index] = "none";
      } catch (const SharedFailure& failure) {
        result[index] = concat(failure.exit_code(), ' ', failure.what());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return result;
}

}  // namespace

TEST_CASE("when all ranks are ready all go on") {
  CHECK(endings(3, [](int) {}) == std::vector<std::string>(3, "none"));
  CHECK(endings(1, [](int) {}) == std::vector<std::string>(1, "none"));
}

TEST_CASE("an error of all ranks is reported as one") {
  CHECK(endings(3, [](int) { throw ConfigError("no"); }) == std::vector<std::string>(3, "93 no"));
}

TEST_CASE("an error of one rank ends all with its name") {
  const auto result = endings(4, [](int rank) {
    if (rank == 2) {
      throw IoError("shard.h5: open: no such file");
    }
    if (rank == 3) {
      throw InternalError("x");
    }
  });
  CHECK(result == std::vector<std::string>(4, "93 rank 2: shard.h5: open: no such file"));
}

TEST_CASE("messages of any length arrive whole") {
  for (const std::size_t length : {0, 1, 7, 8, 9, 100'000}) {
    const std::string message(length, 'm');
    CHECK(endings(2, [&](int) { throw ConfigError(message); }) ==
          std::vector<std::string>(2, "93 " + message));
  }
}

}  // namespace fathom::cli
