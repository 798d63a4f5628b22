#pragma once

#include <chrono>
#include <cstdint>

namespace fathom::cli {

// Says on standard error how far a long conversion is: a line every ten seconds.
class ProgressLine {
 public:
  explicit ProgressLine(bool speaks) : speaks_(speaks) {}

  void show(std::int64_t done_bytes, std::int64_t total_bytes);
  double seconds() const;  // since it was made

 private:
  using Clock = std::chrono::steady_clock;
  bool speaks_;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point last_ = begin_;
};

}  // namespace fathom::cli
