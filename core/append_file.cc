#include "core/append_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/file.h"

namespace fathom {

AppendFile::AppendFile(std::filesystem::path path, Start start) : path_(std::move(path)) {
  const int flags =
      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (start == Start::kEmpty ? O_TRUNC : 0);
  do {
    descriptor_ = ::open(path_.c_str(), flags, 0666);
  } while (descriptor_ < 0 && errno == EINTR);
  struct stat status{};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
    const int error = errno;
    if (descriptor_ >= 0) {
      ::close(descriptor_);
    }
    throw_io_error("open", path_, error);
  }
  size_ = status.st_size;
}

AppendFile::~AppendFile() { ::close(descriptor_); }

bool AppendFile::write_all(std::string_view piece) const {
  while (!piece.empty()) {
    const ssize_t count = ::write(descriptor_, piece.data(), piece.size());
    if (count < 0 && errno != EINTR) {
      return false;
    }
    piece.remove_prefix(count > 0 ? static_cast<std::size_t>(count) : 0);
  }
  return true;
}

// Only where there is something to cut off: pipes and devices have no size.
bool AppendFile::cut() const {
  struct stat status{};
  return ::fstat(descriptor_, &status) == 0 &&
         (!S_ISREG(status.st_mode) || status.st_size <= size_ ||
          ::ftruncate(descriptor_, size_) == 0);
}

void AppendFile::append(std::string_view piece) {
  if (!cut() || !write_all(piece)) {
    const int error = errno;
    (void)cut();  // now, if it can be: the program may end before the next try
    throw_io_error("write", path_, error);
  }
  size_ += static_cast<std::int64_t>(piece.size());
}

}  // namespace fathom
