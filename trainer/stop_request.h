#pragma once

#include <chrono>

namespace fathom::trainer {

// Whether somebody asked the run to stop at the next step boundary: SIGUSR1 or SIGTERM to this
// process, or the time limit. The signals are blocked and looked for, not handled, so there is no
// handler and no global.
class StopRequest {
 public:
  // Call block_signals() before any other thread starts. time_limit 0: none.
  explicit StopRequest(std::chrono::duration<double> time_limit);
  static void block_signals();

  enum class Reason { kNone, kSignal, kTimeLimit };
  // Takes pending signals; once a stop is requested it stays.
  Reason check();

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::duration<double> time_limit_;
  Reason reason_ = Reason::kNone;
};

}  // namespace fathom::trainer
