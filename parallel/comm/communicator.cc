#include "parallel/comm/communicator.h"

#include <exception>
#include <iostream>
#include <utility>

#include "core/error.h"

namespace fathom::parallel {

Work& Work::operator=(Work&& other) noexcept {
  const Work before = std::move(*this);  // waits at the end of this scope
  finish_ = std::exchange(other.finish_, nullptr);
  return *this;
}

Work::~Work() {
  try {
    wait();
  } catch (const std::exception& error) {
    std::cerr << concat("warning: a communication that nobody waited for failed: ", error.what(),
                        '\n')
              << std::flush;
  }
}

void Work::wait() {
  if (const auto finish = std::exchange(finish_, nullptr)) {
    finish();
  }
}

void Communicator::connect(std::span<const int> /*peers*/) {}

}  // namespace fathom::parallel
