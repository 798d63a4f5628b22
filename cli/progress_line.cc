#include "cli/progress_line.h"

#include <algorithm>
#include <iostream>

#include "core/error.h"

namespace fathom::cli {

void ProgressLine::show(std::int64_t done_bytes, std::int64_t total_bytes) {
  const Clock::time_point now = Clock::now();
  if (!speaks_ || now - last_ < std::chrono::seconds(10)) {
    return;
  }
  last_ = now;
  std::cerr << concat(100 * done_bytes / std::max<std::int64_t>(total_bytes, 1), "% of ",
                      total_bytes / 1'000'000, " MB on this rank\n");
}

double ProgressLine::seconds() const {
  return std::chrono::duration<double>(Clock::now() - begin_).count();
}

}  // namespace fathom::cli
