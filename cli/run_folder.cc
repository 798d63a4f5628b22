#include "cli/run_folder.h"

#include <system_error>

#include "configs/write.h"
#include "core/error.h"
#include "core/file.h"

namespace fathom::cli {

RunFolder::RunFolder(const std::filesystem::path& path, const std::filesystem::path& checkpoints)
    : path_(path), lock_(path, "run folder", "run.directory") {
  std::error_code error;
  if (!std::filesystem::equivalent(path, checkpoints, error)) {
    checkpoints_lock_.emplace(checkpoints, "folder of checkpoints", "checkpoint.directory");
  }
  std::filesystem::create_directories(log(), error);
  if (error) {
    throw_io_error("create", log(), error.value());
  }
}

void RunFolder::write_config(const config::RunConfig& config) const {
  write_file_atomically(path_ / "config.textproto", config::to_text(config));
}

}  // namespace fathom::cli
