#pragma once

#include <filesystem>
#include <string>

namespace fathom::cli {

// Who holds a lock, as its file says: "HOST PROCESS", and where Slurm runs it, "JOB LIFE", of which
// the second counts how often it was put back into the queue.
struct LockHolder {
  std::string host;
  long process = 0;  // 0: nobody
  std::string job;
  int life = 0;
};
LockHolder this_process();
// Whether it may still run, as far as `here` can see, where a file system has no locks. A process
// of another host may, unless it is of an earlier life of the same job.
bool may_be_alive(const LockHolder& holder, const LockHolder& here);

// A folder that one job at a time may write to; a file in it, "lock", names the holder and is empty
// when there is none. The lock is the kernel's (flock): it goes with the process, however that
// ends. Where a file system has no such locks, what the file says decides.
class JobLock {
 public:
  // Creates the folder where needed. `what` ("run folder") and `field` ("run.directory") are for
  // the message: ConfigError naming the holder when another job has the folder. IoError when it
  // cannot be written.
  JobLock(const std::filesystem::path& folder, const std::string& what, const std::string& field);
  ~JobLock();
  JobLock(const JobLock&) = delete;
  JobLock& operator=(const JobLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace fathom::cli
