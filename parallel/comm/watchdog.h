#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "parallel/comm/hang.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/comm/heartbeat_file.h"

namespace fathom::parallel {

// How often a rank writes its heartbeat: thirty times in `deadline`, which many ranks' shared file
// system bears, and never more than once a second, or once in a shorter deadline.
std::chrono::milliseconds heartbeat_interval(std::chrono::milliseconds deadline);
// CommOptions::deadline of ranks that a watchdog watches: its own deadline comes first, with time
// for its two looks, and what it calls progress may take half an hour in any case.
std::chrono::milliseconds deadline_of_waits(std::chrono::milliseconds deadline);

struct WatchdogOptions {
  std::filesystem::path folder;  // seen by all ranks: RUN/log/heartbeat
  int rank = 0;
  int world_size = 1;
  std::uint64_t job_id = 0;  // the same on all ranks of the job and on no other job
  std::chrono::milliseconds deadline{std::chrono::minutes(10)};
  std::chrono::milliseconds interval{1000};
};

// Ends a job that hangs. A thread of its own, outside computation and MPI, writes this rank's
// heartbeat into a file every `interval`. When no rank has made progress for `deadline`, one of the
// ranks says on standard error which rank is guilty, at which step and in what, and leaves the
// heartbeats of all ranks in folder / "hang-JOB"; all ranks _exit(124), whereupon mpirun ends those
// that cannot. A process that was suspended as a whole does not count that time.
class Watchdog {
 public:
  // The heartbeat outlives the watchdog. Makes the folder; throws IoError.
  Watchdog(const Heartbeat& heartbeat, WatchdogOptions options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void watch();
  // False when the watchdog is to stop.
  bool sleep(std::chrono::milliseconds time);
  void beat(std::chrono::milliseconds since_last_beat);
  void judge();
  std::vector<std::optional<HeartbeatRecord>> read_all() const;
  [[noreturn]] void end_job(const std::string& line,
                            const std::vector<RankSighting>& sightings) const;

  const Heartbeat& heartbeat_;
  WatchdogOptions options_;
  HeartbeatRecord record_;
  std::uint64_t last_progress_ = 0;
  std::mutex mutex_;
  std::condition_variable stop_signal_;
  bool must_stop_ = false;
  std::thread thread_;
};

}  // namespace fathom::parallel
