#include "core/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/error.h"
#include "core/file.h"

namespace fathom {

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  do {
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) {
    throw_io_error("open", path_, errno);
  }
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

InputFile::~InputFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

std::int64_t InputFile::size_bytes() const {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) {
    throw_io_error("stat", path_, errno);
  }
  return status.st_size;
}

void InputFile::read_at(std::int64_t offset, std::span<std::byte> bytes) const {
  fathom::read_at(descriptor_, path_, offset, bytes);
}

void read_at(int descriptor, const std::filesystem::path& path, std::int64_t offset,
             std::span<std::byte> bytes) {
  // One system call moves at most about 2 GiB.
  constexpr std::size_t kMaxTransfer = std::size_t{1} << 30;
  while (!bytes.empty()) {
    const ssize_t count =
        ::pread(descriptor, bytes.data(), std::min(bytes.size(), kMaxTransfer), offset);
    if (count == 0) {
      throw IoError(concat("read ", path.string(), ": ends at ", offset, ", ", bytes.size(),
                           " bytes too early"));
    }
    if (count > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      offset += count;
    } else if (errno != EINTR) {
      throw_io_error("read", path, errno);
    }
  }
}

}  // namespace fathom
