#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace fathom::trainer {

// A folder that appears whole or not at all: its files go into PATH.tmp, which publish() renames.
// Unless it is published, all of that is removed.
class NewFolder {
 public:
  // Throws ConfigError when `path` is there already, or PATH.tmp: another program may be writing
  // it.
  explicit NewFolder(const std::filesystem::path& path);
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  // A small file. Throws IoError.
  void write(const std::string& name, std::string_view content) const;
  // Durable when it returns. Throws IoError.
  void publish();

  // Where the files of `path` go until it is published.
  static std::filesystem::path temporary(const std::filesystem::path& path);
  // Throws ConfigError as the constructor, and writes nothing.
  static void require_room(const std::filesystem::path& path);

 private:
  std::filesystem::path path_;
  bool is_published_ = false;
};

}  // namespace fathom::trainer
