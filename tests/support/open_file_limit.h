#pragma once

#include <sys/resource.h>

#include "core/error.h"

namespace fathom::test {

// Whether an error can be looked at while no file can be opened: a sanitizer's check of an object's
// type opens a pipe, and without one takes every object for a wrong one.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kErrorsNeedFiles = true;
#else
inline constexpr bool kErrorsNeedFiles = false;
#endif

// Allows this process that many open files, until the end of the test.
class OpenFileLimit {
 public:
  explicit OpenFileLimit(rlim_t limit) {
    FATHOM_CHECK(getrlimit(RLIMIT_NOFILE, &before_) == 0);
    struct rlimit now = before_;
    now.rlim_cur = limit;
    FATHOM_CHECK(setrlimit(RLIMIT_NOFILE, &now) == 0, limit);
  }
  ~OpenFileLimit() { setrlimit(RLIMIT_NOFILE, &before_); }
  OpenFileLimit(const OpenFileLimit&) = delete;
  OpenFileLimit& operator=(const OpenFileLimit&) = delete;

 private:
  struct rlimit before_{};
};

}  // namespace fathom::test
