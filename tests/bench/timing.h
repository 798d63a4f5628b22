#pragma once

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>

namespace fathom::bench {

// With one thread its processor time, which other programs do not disturb as much as they do the
// wall clock.
inline double now_seconds(bool one_thread) {
  if (one_thread) {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The shortest of several runs that together take at least `least_seconds`.
inline double best_seconds(bool one_thread, double least_seconds,
                           const std::function<void()>& work) {
  double best = 1e9;
  double total = 0;
  for (int i = 0; i < 3 || total < least_seconds; ++i) {
    const double start = now_seconds(one_thread);
    work();
    const double seconds = now_seconds(one_thread) - start;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

}  // namespace fathom::bench
