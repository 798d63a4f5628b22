#include "trainer/checkpoint/shard_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/input_file.h"

namespace fathom::trainer {
namespace {

// One system call moves at most about 2 GiB.
constexpr std::size_t kMaxTransfer = std::size_t{1} << 30;

}  // namespace

ShardFile ShardFile::create(const std::filesystem::path& path) {
  return {path, O_RDWR | O_CREAT | O_EXCL};
}

ShardFile ShardFile::open_for_reading(const std::filesystem::path& path) {
  return {path, O_RDONLY};
}

ShardFile ShardFile::open_for_writing(const std::filesystem::path& path) { return {path, O_RDWR}; }

ShardFile::ShardFile(std::filesystem::path path, int flags) : path_(std::move(path)) {
  do {
    // O_NONBLOCK: opening a named pipe must not hang. It has no effect on regular files.
    descriptor_ = ::open(path_.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) {
    throw_io_error("open", path_, errno);
  }
  check_regular();
}

void ShardFile::check_regular() const {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw IoError(concat("open ", path_.string(), ": not a regular file"));
  }
}

ShardFile::ShardFile(ShardFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

ShardFile& ShardFile::operator=(ShardFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

ShardFile::~ShardFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

std::int64_t ShardFile::size_bytes() const {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) {
    throw_io_error("stat", path_, errno);
  }
  return status.st_size;
}

void ShardFile::read_at(std::int64_t offset, std::span<std::byte> bytes) const {
  fathom::read_at(descriptor_, path_, offset, bytes);
}

void ShardFile::write_at(std::int64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count =
        ::pwrite(descriptor_, bytes.data(), std::min(bytes.size(), kMaxTransfer), offset);
    if (count >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(count));
      offset += count;
    } else if (errno != EINTR) {
      throw_io_error("write", path_, errno);
    }
  }
}

void ShardFile::reserve(std::int64_t bytes) const {
  int result = 0;
  do {
    // Mode 0: with FALLOC_FL_KEEP_SIZE the kernel would not look at the limit of the file size.
    result = ::fallocate(descriptor_, 0, 0, std::max<std::int64_t>(bytes, 1));
  } while (result != 0 && errno == EINTR);
  if (result == 0 || errno == EOPNOTSUPP || errno == ENOSYS) {
    return;
  }
  const int error = errno;
  throw_io_error(concat("reserve ", bytes, " bytes for"), path_, error);
}

void ShardFile::sync() const {
  if (::fsync(descriptor_) != 0) {
    throw_io_error("fsync", path_, errno);
  }
}

void ShardFile::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  if (::close(descriptor) != 0 && errno != EINTR) {
    throw_io_error("close", path_, errno);
  }
}

bool ShardFile::try_lock(int operation) const {
  int result = 0;
  do {
    result = ::flock(descriptor_, operation | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  switch (result == 0 ? 0 : errno) {
    case 0:
    case ENOSYS:
    case ENOLCK:
    case EOPNOTSUPP:
      return true;
    case EWOULDBLOCK:
      return false;
    default:
      throw_io_error("flock", path_, errno);
  }
}

bool ShardFile::try_lock_shared() const { return try_lock(LOCK_SH); }
bool ShardFile::try_lock_exclusive() const { return try_lock(LOCK_EX); }

bool ShardFile::is_deleted() const {
  struct stat status{};
  return ::fstat(descriptor_, &status) != 0 || status.st_nlink == 0;
}

void for_each_block(const ShardFile& file, std::int64_t begin, std::int64_t end,
                    const std::function<void(std::span<const std::byte>)>& visit) {
  constexpr std::int64_t kBlock = std::int64_t{1} << 20;
  std::vector<std::byte> block(static_cast<std::size_t>(std::min(kBlock, end - begin)));
  for (std::int64_t offset = begin; offset < end; offset += kBlock) {
    const auto bytes =
        std::span(block).first(static_cast<std::size_t>(std::min(kBlock, end - offset)));
    file.read_at(offset, bytes);
    visit(bytes);
  }
}

}  // namespace fathom::trainer
