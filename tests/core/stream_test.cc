#include "core/stream.h"

#include <immintrin.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"

using namespace fathom;

TEST_CASE("parallel_for covers every item once, in ranges of at least the grain") {
  const int num_threads = GENERATE(1, 2, 3, 8);
  Stream stream({}, num_threads);
  CHECK(stream.num_threads() == num_threads);
  for (const std::int64_t count : {0, 1, 2, 7, 8, 9, 1000}) {
    for (const std::int64_t grain : {1, 3, 500, 5000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      std::atomic<int> num_ranges = 0;
      std::atomic<int> num_short = 0;
      stream.parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
        ++num_ranges;
        num_short += end - begin < std::min(grain, count) ? 1 : 0;
        for (std::int64_t i = begin; i < end; ++i) {
          ++visits[static_cast<std::size_t>(i)];
        }
      });
      bool is_once = true;
      for (const std::atomic<int>& number : visits) {
        is_once = is_once && number == 1;
      }
      REQUIRE(is_once);
      REQUIRE(num_short == 0);
      REQUIRE(num_ranges <= num_threads);
      REQUIRE((count == 0) == (num_ranges == 0));
    }
  }
}

TEST_CASE("one thread runs the body in the caller, several run it elsewhere too") {
  const std::thread::id caller = std::this_thread::get_id();
  Stream alone;
  bool is_caller = false;
  alone.parallel_for(100, 1, [&](std::int64_t begin, std::int64_t end) {
    is_caller = std::this_thread::get_id() == caller && begin == 0 && end == 100;
  });
  CHECK(is_caller);

  Stream pair({}, 2);
  std::atomic<int> num_elsewhere = 0;
  pair.parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
    num_elsewhere += std::this_thread::get_id() == caller ? 0 : 1;
  });
  CHECK(num_elsewhere == 1);
}

TEST_CASE("many short jobs with pauses between them are all done") {
  Stream stream({}, 4);
  std::int64_t total = 0;
  for (int job = 0; job < 3000; ++job) {
    std::atomic<std::int64_t> sum = 0;
    stream.parallel_for(1 + job % 9, 1,
                        [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
    total += sum - (1 + job % 9);
    if (job % 500 == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // workers fall asleep
    }
  }
  CHECK(total == 0);
}

TEST_CASE(
    "an exception of a range reaches the caller, the first range's first, and the stream goes on") {
  Stream stream({}, 3);
  std::string message;
  try {
    stream.parallel_for(3, 1, [](std::int64_t begin, std::int64_t) {
      if (begin > 0) {
        throw std::runtime_error("range " + std::to_string(begin));
      }
    });
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  CHECK(message == "range 1");
  std::atomic<int> items = 0;
  stream.parallel_for(
      3, 1, [&](std::int64_t begin, std::int64_t end) { items += static_cast<int>(end - begin); });
  CHECK(items == 3);
}

TEST_CASE("a parallel_for inside another is refused, not a hang") {
  Stream stream({}, 2);
  CHECK_THROWS_AS(stream.parallel_for(2, 1,
                                      [&](std::int64_t, std::int64_t) {
                                        stream.parallel_for(2, 1,
                                                            [](std::int64_t, std::int64_t) {});
                                      }),
                  InternalError);
}

TEST_CASE("threads keep denormals, and a thread that flushes them is found out") {
  Stream stream({}, 2);
  std::atomic<int> num_kept = 0;
  stream.parallel_for(2, 1, [&](std::int64_t, std::int64_t) {
    volatile float tiny = 1e-38F;
    num_kept += tiny * 0.01F > 0.0F ? 1 : 0;
  });
  CHECK(num_kept == 2);
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040U);  // flush to zero, denormals are zero
  CHECK_THROWS_AS(stream.parallel_for(2, 1, [](std::int64_t, std::int64_t) {}), InternalError);
  CHECK_THROWS_AS(stream.parallel_for(1, 1, [](std::int64_t, std::int64_t) {}), InternalError);
  const Stream other;  // sets it anew
  stream.parallel_for(1, 1, [](std::int64_t, std::int64_t) {});
  _mm_setcsr(before);
}

TEST_CASE("a moved stream keeps its threads and its allocator") {
  Stream first({}, 2);
  const auto allocator = first.allocator();
  Stream second = std::move(first);
  CHECK(second.num_threads() == 2);
  CHECK(second.allocator() == allocator);
}

TEST_CASE("a meta stream has no threads and runs no loops") {
  Stream stream({DeviceType::kMeta}, 4);
  CHECK(stream.is_meta());
  CHECK(stream.num_threads() == 1);
  CHECK_THROWS_AS(stream.parallel_for(1, 1, [](std::int64_t, std::int64_t) {}), InternalError);
  CHECK_THROWS_AS(Stream({}, 0), InternalError);
}
