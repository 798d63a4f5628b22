#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "core/append_file.h"

namespace fathom::trainer {

// A file that a run writes one JSON object a line into, each with an integer "step". All functions
// throw IoError naming the file.
class JsonLines {
 public:
  // A run that resumes from a checkpoint of step N keeps the lines up to step N and forgets what
  // came after, and the line that said that the run had ended ("event": "end"). Without a step the
  // file starts empty.
  JsonLines(std::filesystem::path path, std::optional<std::int64_t> resume_step);

  // Whether a line that was kept says that this happened ("event": ...) at the step of the resume.
  bool has_event(std::string_view name) const { return events_.contains(name); }

  // Appends a line and hands it to the system; a line that cannot be written leaves nothing behind.
  void append(const std::string& object) { file_.append(object + '\n'); }

 private:
  std::set<std::string, std::less<>> events_;  // before the file, which it is read from
  AppendFile file_;
};

}  // namespace fathom::trainer
