#pragma once

#include <source_location>
#include <string>
#include <vector>

#include "core/error.h"

namespace fathom::config {

// Everything that is wrong with a config, one line each, so that a user mends it in one go.
class Problems {
 public:
  template <class... Parts>
  void add(const Parts&... parts) {
    lines_.push_back(concat(parts...));
  }
  // Adds the parts as a problem unless `holds`; returns `holds`.
  template <class... Parts>
  bool require(bool holds, const Parts&... parts) {
    if (!holds) {
      add(parts...);
    }
    return holds;
  }

  const std::vector<std::string>& lines() const noexcept { return lines_; }
  // Throws one ConfigError with all lines.
  void throw_if_any(std::source_location where = std::source_location::current()) const {
    if (lines_.empty()) {
      return;
    }
    std::string message =
        lines_.size() == 1 ? lines_.front() : concat(lines_.size(), " problems with the config:");
    if (lines_.size() > 1) {
      for (const std::string& line : lines_) {
        message += "\n  " + line;
      }
    }
    throw ConfigError(message, where);
  }

 private:
  std::vector<std::string> lines_;
};

}  // namespace fathom::config
