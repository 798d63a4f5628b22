#pragma once

#include <sys/resource.h>

#include <csignal>

#include "core/error.h"

namespace fathom::test {

// Allows the files of this process that many bytes, until the end of the test.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    FATHOM_CHECK(getrlimit(RLIMIT_FSIZE, &before_) == 0);
    struct rlimit now = before_;
    now.rlim_cur = bytes;
    FATHOM_CHECK(setrlimit(RLIMIT_FSIZE, &now) == 0, bytes);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  struct rlimit before_{};
};

}  // namespace fathom::test
