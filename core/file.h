#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace fathom {

// Small files, read and written whole. All functions throw IoError naming the path, the operation
// and the system's reason.
std::string read_file(const std::filesystem::path& path);
// Durable and atomic: writes path + ".tmp", fsyncs it, renames it onto `path`, fsyncs the folder.
// On any failure the temporary is removed and what was at `path` before is untouched.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);
// Makes the folder that is to hold `file`, and those above it, where they are missing: before the
// work whose result goes there.
void create_folder_of(const std::filesystem::path& file);
// A folder whose entries have changed; a failed fsync means that they are lost (never retried).
void sync_folder(const std::filesystem::path& path);
// Renames and fsyncs the folder that holds `to`.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

// "step-00000200.pb": at least 8 digits, so that names sort as their numbers do. number >= 0.
std::string numbered_name(std::string_view prefix, std::int64_t number,
                          std::string_view suffix = "");

// Throws IoError: "<operation> <path>: <what errno `error` means>", and what is still free on the
// file system when that is too little, or how many files a process may have open.
[[noreturn]] void throw_io_error(std::string_view operation, const std::filesystem::path& path,
                                 int error);

}  // namespace fathom
