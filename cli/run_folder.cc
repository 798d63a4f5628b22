#include "cli/run_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <system_error>

#include "configs/write.h"
#include "core/error.h"
#include "core/file.h"

namespace fathom::cli {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

struct Holder {
  std::string host;
  long process = 0;
};

// The content of a lock file; process 0 when it is empty.
Holder read_holder(int lock) {
  std::array<char, 512> buffer{};
  const ssize_t length = pread(lock, buffer.data(), buffer.size() - 1, 0);
  std::istringstream text(
      std::string(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))));
  Holder holder;
  text >> holder.host >> holder.process;
  return holder;
}

void write_holder(int lock, const std::filesystem::path& path) {
  const std::string text = concat(host_name(), ' ', getpid(), '\n');
  const auto length = static_cast<ssize_t>(text.size());
  if (ftruncate(lock, 0) != 0 || pwrite(lock, text.data(), text.size(), 0) != length) {
    throw IoError(concat(path.string(), ": write: ", std::strerror(errno)));
  }
}

// Without the kernel's locks: dead only if we can see that it is.
bool may_be_alive(const Holder& holder) {
  if (holder.process == 0) {
    return false;
  }
  return holder.host != host_name() || kill(static_cast<pid_t>(holder.process), 0) == 0 ||
         errno == EPERM;
}

// Whether the lock was taken.
bool take(int lock, const std::filesystem::path& path) {
  if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
    return true;
  }
  switch (errno) {
    case EWOULDBLOCK:
      return false;
    case ENOSYS:
    case ENOLCK:
    case EOPNOTSUPP:
      return !may_be_alive(read_holder(lock));
    default:
      throw IoError(concat(path.string(), ": flock: ", std::strerror(errno)));
  }
}

}  // namespace

RunFolder::RunFolder(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  std::filesystem::create_directories(log(), error);
  if (error) {
    throw IoError(concat(log().string(), ": create: ", error.message()));
  }
  const std::filesystem::path file = path_ / "lock";
  lock_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0) {
    throw IoError(concat(file.string(), ": open: ", std::strerror(errno)));
  }
  try {
    if (!take(lock_, file)) {
      const Holder holder = read_holder(lock_);
      throw ConfigError(concat("run folder ", path_.string(), " is in use by process ",
                               holder.process, " on ", holder.host,
                               ": stop that job or set another run.directory"));
    }
    write_holder(lock_, file);
  } catch (...) {
    close(lock_);
    throw;
  }
}

RunFolder::~RunFolder() {
  // Empty for file systems without locks; nothing to be done if it fails.
  [[maybe_unused]] const int ignored = ftruncate(lock_, 0);
  close(lock_);
}

void RunFolder::write_config(const config::RunConfig& config) const {
  write_file_atomically(path_ / "config.textproto", config::to_text(config));
}

}  // namespace fathom::cli
