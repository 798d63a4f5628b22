#include "parallel/comm/agree.h"

#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "parallel/comm/thread_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::parallel {
namespace {

// What each of `size` ranks throws from agree(): "<kind>: <message>", or "none".
std::vector<std::string> errors_of(int size, const std::function<void(int)>& body) {
  auto world = make_thread_world(size);
  std::vector<std::string> result(static_cast<std::size_t>(size));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto index = static_cast<std::size_t>(rank);
      try {
        agree(*world[index], [&] { body(rank); });
        result[index] = "none";
      } catch (const Error& error) {
        const std::string text = error.what();
        const bool is_shared = dynamic_cast<const SharedError*>(&error) != nullptr;
        result[index] = is_shared ? text.substr(0, text.rfind(" [")) : "not shared";
      }
    });
  }
  threads.clear();
  return result;
}

}  // namespace

TEST_CASE("when all ranks are ready all go on") {
  CHECK(errors_of(3, [](int) {}) == std::vector<std::string>(3, "none"));
  CHECK(errors_of(1, [](int) {}) == std::vector<std::string>(1, "none"));
}

TEST_CASE("an error of all ranks is one error") {
  CHECK(errors_of(3, [](int) { throw ConfigError("no"); }) ==
        std::vector<std::string>(3, "config: no"));
}

TEST_CASE("an error of some ranks ends all with the name of the first and how many more") {
  CHECK(errors_of(4, [](int rank) {
          if (rank == 2) {
            throw IoError("shard.h5: open: no such file");
          }
        }) == std::vector<std::string>(4, "io: rank 2: shard.h5: open: no such file"));
  CHECK(errors_of(4, [](int rank) {
          if (rank == 1) {
            throw DeviceError("hot");
          }
          if (rank == 3) {
            throw ConfigError("x");
          }
        }) == std::vector<std::string>(4, "device: rank 1: hot (and 1 more of 4 ranks)"));
  CHECK(errors_of(2, [](int rank) { throw IoError(concat("file ", rank)); }) ==
        std::vector<std::string>(2, "io: rank 0: file 0 (and 1 more of 2 ranks)"));
}

TEST_CASE("all ranks learn which error of the system it was") {
  std::vector<int> errors(3);
  test::run_ranks(3, [&](Communicator& world, Stream&) {
    try {
      agree(world, [&] {
        if (world.rank() == 1) {
          throw IoError("the disk is full", ENOSPC);
        }
      });
    } catch (const IoError& error) {
      errors[static_cast<std::size_t>(world.rank())] = error.system_error();
    }
  });
  CHECK(errors == std::vector<int>(3, ENOSPC));
}

TEST_CASE("messages of any length arrive whole") {
  for (const std::size_t length : {0, 1, 7, 8, 9, 100'000}) {
    const std::string message(length, 'm');
    CHECK(errors_of(2, [&](int) { throw ConfigError(message); }) ==
          std::vector<std::string>(2, "config: " + message));
  }
}

}  // namespace fathom::parallel
