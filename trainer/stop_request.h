#pragma once

#include <chrono>

namespace fathom::trainer {

// Whether somebody asked the run to stop at the next step boundary: SIGUSR1 or SIGTERM to this
// process, or the time limit. The signals are blocked and looked for, not handled, so there is no
// handler and no global.
class StopRequest {
 public:
  // Call block_signals() before any other thread starts. time_limit counts from `begin`; 0: none.
  StopRequest(std::chrono::duration<double> time_limit,
              std::chrono::steady_clock::time_point begin);
  static void block_signals();

  enum class Reason { kNone, kSignal, kTimeLimit };
  // Takes pending signals; once a stop is requested it stays.
  Reason check();

 private:
  std::chrono::duration<double> time_limit_;
  std::chrono::steady_clock::time_point begin_;
  Reason reason_ = Reason::kNone;
};

}  // namespace fathom::trainer
