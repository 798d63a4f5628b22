#include "trainer/hf/new_folder.h"

#include <cerrno>
#include <system_error>

#include "core/error.h"
#include "core/file.h"

namespace fathom::trainer {
namespace {

namespace fs = std::filesystem;

// "a/b" for "a/b/".
fs::path without_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

[[noreturn]] void refuse_temporary(const fs::path& temporary) {
  throw ConfigError(concat(temporary.string(),
                           " exists: it is being written, or a program that wrote it was killed; "
                           "then remove it"));
}

}  // namespace

fs::path NewFolder::temporary(const fs::path& path) {
  fs::path temporary = without_slash(path);
  temporary += ".tmp";
  return temporary;
}

void NewFolder::require_room(const fs::path& path) {
  std::error_code error;
  if (fs::exists(fs::symlink_status(without_slash(path), error))) {
    throw ConfigError(concat(path.string(), " exists already: name a new folder, or remove it"));
  }
  const fs::path temporary = NewFolder::temporary(path);
  if (fs::exists(fs::symlink_status(temporary, error))) {
    refuse_temporary(temporary);
  }
}

NewFolder::NewFolder(const fs::path& path) : path_(without_slash(path)) {
  require_room(path_);
  std::error_code error;
  const fs::path folder = temporary(path_);
  if (folder.has_parent_path()) {
    fs::create_directories(folder.parent_path(), error);
  }
  // Only one of two programs creates it: the other one must not take it for its own.
  const bool is_new = !error && fs::create_directory(folder, error);
  if (error) {
    throw_io_error("create", folder, error.value());
  }
  if (!is_new) {
    refuse_temporary(folder);
  }
}

NewFolder::~NewFolder() {
  if (!is_published_) {
    std::error_code ignored;
    fs::remove_all(temporary(path_), ignored);
  }
}

void NewFolder::write(const std::string& name, std::string_view content) const {
  write_file_atomically(temporary(path_) / name, content);
}

void NewFolder::publish() {
  sync_folder(temporary(path_));
  rename_durably(temporary(path_), path_);
  is_published_ = true;
}

}  // namespace fathom::trainer
