#include "trainer/hf/plain_file.h"

#include <span>
#include <system_error>

#include "core/error.h"
#include "trainer/checkpoint/shard_file.h"

namespace fathom::trainer {

namespace fs = std::filesystem;

void require_plain_file(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (!fs::exists(status)) {
    throw ConfigError(concat(path.string(), " is missing"));
  }
  if (status.type() == fs::file_type::symlink) {
    throw ConfigError(concat(path.string(),
                             " is a symbolic link, which is not followed: copy the file, or "
                             "download the model with --local-dir"));
  }
}

std::string read_plain_file(const fs::path& path, std::int64_t max_bytes) {
  require_plain_file(path);
  const ShardFile file = ShardFile::open_for_reading(path);
  const std::int64_t size = file.size_bytes();
  if (size > max_bytes) {
    throw ConfigError(
        concat(path.string(), ": ", size, " bytes, at most ", max_bytes, " are allowed"));
  }
  std::string content(static_cast<std::size_t>(size), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(content)));
  return content;
}

}  // namespace fathom::trainer
