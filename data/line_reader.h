#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace fathom::data {

// Reads a file line by line from a byte on, and never more than a limit into memory.
class LineReader {
 public:
  // Throws IoError when the file cannot be opened.
  LineReader(const std::filesystem::path& file, std::int64_t begin, std::int64_t max_line_bytes);

  // The next line with its newline; a line longer than the limit comes in parts, none of which ends
  // within a character of UTF-8. False at the end of the file.
  bool next(std::string& line);
  // Where in the file the line that next() gave last begins.
  std::int64_t line_begin() const noexcept { return line_begin_; }

 private:
  bool fill();
  void give_back_incomplete_character(std::string& part);

  std::filesystem::path file_;
  std::ifstream stream_;
  std::int64_t max_line_bytes_;
  std::int64_t position_;  // of the next byte to hand out
  std::int64_t line_begin_;
  std::vector<char> block_;
  std::size_t block_begin_ = 0;  // what is left of the block
  std::size_t block_end_ = 0;
};

// Up to `count` bytes of the file that end at byte `end`. Throws IoError.
std::string bytes_before(const std::filesystem::path& file, std::int64_t end, std::int64_t count);
// The number, from 1, of the line that holds byte `position`: reads the file up to there.
std::int64_t line_number_at(const std::filesystem::path& file, std::int64_t position);

}  // namespace fathom::data
