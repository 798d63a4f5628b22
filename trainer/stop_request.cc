#include "trainer/stop_request.h"

#include <csignal>
#include <ctime>

namespace fathom::trainer {
namespace {

sigset_t stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigaddset(&signals, SIGTERM);
  return signals;
}

}  // namespace

StopRequest::StopRequest(std::chrono::duration<double> time_limit,
                         std::chrono::steady_clock::time_point begin)
    : time_limit_(time_limit), begin_(begin) {}

void StopRequest::block_signals() {
  const sigset_t signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

StopRequest::Reason StopRequest::check() {
  const sigset_t signals = stop_signals();
  const timespec at_once{0, 0};
  while (sigtimedwait(&signals, nullptr, &at_once) > 0) {
    reason_ = Reason::kSignal;
  }
  if (reason_ == Reason::kNone && time_limit_.count() > 0 &&
      std::chrono::steady_clock::now() - begin_ >= time_limit_) {
    reason_ = Reason::kTimeLimit;
  }
  return reason_;
}

}  // namespace fathom::trainer
