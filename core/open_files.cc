#include "core/open_files.h"

#include <sys/resource.h>

#include <algorithm>

namespace fathom {

std::int64_t open_file_limit() noexcept {
  constexpr rlim_t kMost = rlim_t{1} << 30;
  struct rlimit limit{};
  constexpr std::int64_t kUsual = 1024;
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0
             ? static_cast<std::int64_t>(std::min(limit.rlim_cur, kMost))
             : kUsual;
}

void raise_open_file_limit() noexcept {
  // No more than this: libraries go through all numbers up to the limit when they start a process.
  constexpr rlim_t kEnough = rlim_t{1} << 16;
  struct rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return;
  }
  limit.rlim_cur = std::max(limit.rlim_cur, std::min(limit.rlim_max, kEnough));
  ::setrlimit(RLIMIT_NOFILE, &limit);  // where it fails, all stays as it was
}

}  // namespace fathom
