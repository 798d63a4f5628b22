#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "core/error.h"
#include "core/open_files.h"

namespace fathom {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  const std::filesystem::path absolute = path.is_absolute() ? path : "." / path;
  return absolute.has_filename() ? absolute.parent_path() : absolute.parent_path().parent_path();
}

// " (45056 bytes are free on its file system)", or how many files may be open; "" when neither is
// the matter.
std::string what_is_left(const std::filesystem::path& path, int error) {
  if (error == EMFILE) {
    return concat(" (this process may have ", open_file_limit(), "; `ulimit -n` raises that)");
  }
  struct statvfs space{};
  if (error != ENOSPC || ::statvfs(folder_of(path).c_str(), &space) != 0) {
    return "";
  }
  const bool is_out_of_files = space.f_files > 0 && space.f_favail == 0;
  return concat(" (", space.f_bavail * space.f_frsize, " bytes",
                is_out_of_files ? ", but no inodes," : "", " are free on its file system)");
}

// An open file that closes itself.
class FileDescriptor {
 public:
  FileDescriptor(const std::filesystem::path& path, int flags) : path_(path) {
    do {
      number_ = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    } while (number_ < 0 && errno == EINTR);
    if (number_ < 0) {
      throw_io_error("open", path_, errno);
    }
  }
  ~FileDescriptor() {
    if (number_ >= 0) {
      ::close(number_);
    }
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  std::string read_all() const {
    std::string content;
    struct stat status{};
    if (::fstat(number_, &status) == 0 && status.st_size > 0) {
      content.reserve(static_cast<std::size_t>(status.st_size));
    }
    char buffer[65536];
    for (;;) {
      const ssize_t count = ::read(number_, buffer, sizeof buffer);
      if (count == 0) {
        return content;
      }
      if (count > 0) {
        content.append(buffer, static_cast<std::size_t>(count));
      } else if (errno != EINTR) {
        throw_io_error("read", path_, errno);
      }
    }
  }

  void write_all(std::string_view content) const {
    while (!content.empty()) {
      const ssize_t count = ::write(number_, content.data(), content.size());
      if (count >= 0) {
        content.remove_prefix(static_cast<std::size_t>(count));
      } else if (errno != EINTR) {
        throw_io_error("write", path_, errno);
      }
    }
  }

  // Never tried again: after a failed fsync the kernel may have dropped the pages and would then
  // report success.
  void sync() const {
    if (::fsync(number_) != 0) {
      throw_io_error("fsync", path_, errno);
    }
  }

  // Network file systems report lost writes here.
  void close() {
    const int number = number_;
    number_ = -1;
    if (::close(number) != 0 && errno != EINTR) {
      throw_io_error("close", path_, errno);
    }
  }

 private:
  std::filesystem::path path_;
  int number_ = -1;
};

}  // namespace

void throw_io_error(std::string_view operation, const std::filesystem::path& path, int error) {
  throw IoError(
      concat(operation, " ", path.string(), ": ",
             std::error_code(error, std::generic_category()).message(), what_is_left(path, error)),
      error);
}

std::string read_file(const std::filesystem::path& path) {
  return FileDescriptor(path, O_RDONLY).read_all();
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  std::filesystem::path temporary = path;
  temporary += ".tmp";
  try {
    FileDescriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    file.write_all(content);
    file.sync();
    file.close();
    rename_durably(temporary, path);
  } catch (const IoError&) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void create_folder_of(const std::filesystem::path& file) {
  const std::filesystem::path folder = folder_of(file);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw_io_error("make folder", folder, error.value());
  }
}

void sync_folder(const std::filesystem::path& path) {
  FileDescriptor(path, O_RDONLY | O_DIRECTORY).sync();
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) {
    const int error = errno;
    throw_io_error(concat("rename ", from.string(), " to"), to, error);
  }
  sync_folder(folder_of(to));
}

std::string numbered_name(std::string_view prefix, std::int64_t number, std::string_view suffix) {
  constexpr std::size_t kNumDigits = 8;
  std::string digits = std::to_string(number);
  digits.insert(0, kNumDigits - std::min(kNumDigits, digits.size()), '0');
  return concat(prefix, digits, suffix);
}

}  // namespace fathom
