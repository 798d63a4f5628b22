#pragma once

#include <mutex>
#include <ostream>
#include <string_view>

#include "core/error.h"

namespace fathom {

// Lines of text for people, from one rank. Rank 0 informs; every rank may warn, and says who it is.
// Writes each line whole and flushes it. Thread-safe. The stream is borrowed and must outlive the
// log.
class Log {
 public:
  Log(std::ostream& out, int rank) : out_(&out), rank_(rank) {}

  int rank() const noexcept { return rank_; }

  // Written by rank 0 only.
  template <class... Parts>
  void info(const Parts&... parts) {
    if (rank_ == 0) {
      write_line(concat(parts...));
    }
  }
  // "rank 3: warning: ...", whichever rank it is.
  template <class... Parts>
  void warning(const Parts&... parts) {
    write_line(concat("rank ", rank_, ": warning: ", parts...));
  }

 private:
  void write_line(std::string_view line);

  std::ostream* out_;
  int rank_;
  std::mutex mutex_;
};

}  // namespace fathom
