#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

namespace fathom::trainer {

// A file that a run writes one JSON object a line into, each with an integer "step". All functions
// throw IoError naming the file.
class JsonLines {
 public:
  // A run that resumes from a checkpoint of step N keeps the lines up to step N and forgets what
  // came after, and the line that said that the run had ended ("event": "end"). Without a step the
  // file starts empty.
  JsonLines(std::filesystem::path path, std::optional<std::int64_t> resume_step);

  // Appends a line and hands it to the system.
  void append(const std::string& object);

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace fathom::trainer
