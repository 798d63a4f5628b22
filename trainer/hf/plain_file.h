#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace fathom::trainer {

// Files of a folder that came from elsewhere. Symbolic links are not followed: they could lead
// anywhere.

// Throws ConfigError unless there is such a file and it is no link.
void require_plain_file(const std::filesystem::path& path);
// The whole of a plain file of at most `max_bytes`. Throws ConfigError, IoError.
std::string read_plain_file(const std::filesystem::path& path, std::int64_t max_bytes);

}  // namespace fathom::trainer
