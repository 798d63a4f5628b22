#include "core/log.h"

#include <string>

namespace fathom {

void Log::write_line(std::string_view line) {
  // One write a line: the output of ranks is merged by the launcher.
  const std::string whole = concat(line, '\n');
  const std::lock_guard lock(mutex_);
  out_->write(whole.data(), static_cast<std::streamsize>(whole.size()));
  out_->flush();
}

}  // namespace fathom
