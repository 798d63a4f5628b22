#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/stream.h"
#include "parallel/comm/thread_communicator.h"

namespace fathom::test {

// Runs body(world, stream) on `num_ranks` threads, one a rank, with streams of `device`, and
// returns when all are done. The first exception is rethrown; it ends the other ranks' waits, so
// that a failure is reported instead of hanging. CHECK and REQUIRE are not thread-safe: collect
// results and look at them afterwards, or throw.
inline void run_ranks(
    int num_ranks, const std::function<void(parallel::Communicator& world, Stream& stream)>& body,
    parallel::CommOptions options = {}, Device device = {}) {
  const auto aborted = std::make_shared<std::atomic<bool>>(false);
  options.aborted = aborted;
  if (num_ranks > static_cast<int>(std::thread::hardware_concurrency())) {
    options.spin_time = std::chrono::microseconds(0);
  }
  auto world = parallel::make_thread_world(num_ranks, options);
  std::mutex mutex;
  std::exception_ptr first_error;
  {
    std::vector<std::jthread> threads;
    for (const auto& communicator : world) {
      threads.emplace_back([&, rank_world = communicator.get()] {
        try {
          Stream stream(device);
          body(*rank_world, stream);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!first_error) {
            first_error = std::current_exception();
          }
          aborted->store(true);
        }
      });
    }
  }
  if (first_error) {
    std::rethrow_exception(first_error);
  }
}

}  // namespace fathom::test
