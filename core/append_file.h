#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace fathom {

// A file that grows at its end, by whole pieces: what could be written of a piece that failed is
// cut off again, so that later ones follow the last whole one. All functions throw IoError naming
// the file.
class AppendFile {
 public:
  enum class Start { kEmpty, kAtEnd };
  // Makes the file where there is none.
  AppendFile(std::filesystem::path path, Start start);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  // Hands all of `piece` to the system, or none; may be tried again.
  void append(std::string_view piece);

 private:
  // False, with errno, when it failed.
  bool write_all(std::string_view piece) const;
  bool cut() const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;  // of the whole pieces
};

}  // namespace fathom
