#include "cli/job_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <sstream>
#include <system_error>

#include "core/error.h"
#include "core/file.h"

namespace fathom::cli {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

LockHolder read_holder(int lock) {
  std::array<char, 512> buffer{};
  const ssize_t length = pread(lock, buffer.data(), buffer.size() - 1, 0);
  std::istringstream text(
      std::string(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))));
  LockHolder holder;
  text >> holder.host >> holder.process >> holder.job >> holder.life;
  return holder;
}

void write_holder(int lock, const std::filesystem::path& path) {
  const LockHolder here = this_process();
  const std::string job = here.job.empty() ? "" : concat(' ', here.job, ' ', here.life);
  const std::string text = concat(here.host, ' ', here.process, job, '\n');
  const auto length = static_cast<ssize_t>(text.size());
  if (ftruncate(lock, 0) != 0 || pwrite(lock, text.data(), text.size(), 0) != length) {
    throw_io_error("write", path, errno);
  }
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
      return !may_be_alive(read_holder(lock), this_process());
    default:
      throw_io_error("flock", path, errno);
  }
}

}  // namespace

LockHolder this_process() {
  LockHolder holder{.host = host_name(), .process = getpid(), .job = {}};
  if (const char* job = std::getenv("SLURM_JOB_ID")) {
    holder.job = job;
    const char* life = std::getenv("SLURM_RESTART_COUNT");
    holder.life = life == nullptr ? 0 : std::atoi(life);
  }
  return holder;
}

bool may_be_alive(const LockHolder& holder, const LockHolder& here) {
  if (holder.process == 0) {
    return false;
  }
  if (holder.host == here.host) {
    return kill(static_cast<pid_t>(holder.process), 0) == 0 || errno == EPERM;
  }
  const bool is_earlier_life =
      !here.job.empty() && holder.job == here.job && holder.life < here.life;
  return !is_earlier_life;
}

JobLock::JobLock(const std::filesystem::path& folder, const std::string& what,
                 const std::string& field) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    throw_io_error("create", folder, error.value());
  }
  const std::filesystem::path file = folder / "lock";
  descriptor_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    throw_io_error("open", file, errno);
  }
  try {
    if (!take(descriptor_, file)) {
      const LockHolder holder = read_holder(descriptor_);
      throw ConfigError(concat(what, " ", folder.string(), " is in use by process ", holder.process,
                               " on ", holder.host, ": stop that job or set another ", field,
                               "; if that job is dead, remove ", file.string()));
    }
    write_holder(descriptor_, file);
  } catch (...) {
    close(descriptor_);
    throw;
  }
}

JobLock::~JobLock() {
  // Empty for file systems without locks; nothing to be done if it fails.
  [[maybe_unused]] const int ignored = ftruncate(descriptor_, 0);
  close(descriptor_);
}

}  // namespace fathom::cli
