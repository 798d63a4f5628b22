#include "parallel/comm/watchdog.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "parallel/comm/host_communicator.h"

namespace fathom::parallel {
namespace {

// A watchdog on a busy machine may be late by this much.
constexpr std::chrono::milliseconds kShortestLook{1000};

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0) {
    return "unknown";
  }
  return name.data();
}

// Plain system calls: the streams' locks may be held by the thread that hangs.
void write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    if (written <= 0) {
      return;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

std::chrono::milliseconds heartbeat_interval(std::chrono::milliseconds deadline) {
  constexpr int kBeats = 30;
  return std::min(deadline, std::max(kShortestLook, deadline / kBeats));
}

std::chrono::milliseconds deadline_of_waits(std::chrono::milliseconds deadline) {
  return std::max(CommOptions{}.deadline, 2 * deadline);
}

Watchdog::Watchdog(const Heartbeat& heartbeat, WatchdogOptions options)
    : heartbeat_(heartbeat), options_(std::move(options)) {
  FATHOM_CHECK(options_.interval.count() > 0 && options_.deadline >= options_.interval, "interval ",
               options_.interval.count(), " ms, deadline ", options_.deadline.count(), " ms");
  std::error_code error;
  std::filesystem::create_directories(options_.folder, error);
  if (error) {
    throw_io_error("create folder", options_.folder, error.value());
  }
  record_.rank = options_.rank;
  record_.job_id = options_.job_id;
  record_.host = host_name();
  record_.pid = static_cast<int>(getpid());
  beat(std::chrono::milliseconds(0));
  if (!read_heartbeat(options_.folder, options_.rank).has_value()) {
    throw IoError(concat(heartbeat_path(options_.folder, options_.rank).string(),
                         ": the heartbeat cannot be written"));
  }
  // Signals are for the threads of the program.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    must_stop_ = true;
  }
  stop_signal_.notify_all();
  thread_.join();
  record_.has_ended = true;
  beat(std::chrono::milliseconds(0));
}

void Watchdog::watch() {
  using Clock = std::chrono::steady_clock;
  auto last_beat = Clock::now();
  while (sleep(options_.interval)) {
    const auto now = Clock::now();
    beat(std::chrono::duration_cast<std::chrono::milliseconds>(now - last_beat));
    last_beat = now;
    if (record_.idle_ms >= options_.deadline.count()) {
      judge();
      last_beat = Clock::now();
    }
  }
}

bool Watchdog::sleep(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !stop_signal_.wait_for(lock, time, [this] { return must_stop_; });
}

void Watchdog::beat(std::chrono::milliseconds since_last_beat) {
  const Heartbeat::Snapshot now = heartbeat_.read();
  // A beat that comes very late is that of a process that was stopped meanwhile, as by Ctrl-Z.
  record_.idle_ms += std::min(since_last_beat, 3 * options_.interval).count();
  if (now.progress != last_progress_) {
    last_progress_ = now.progress;
    record_.idle_ms = 0;
  }
  ++record_.beat;
  record_.step = now.step;
  record_.phase = now.phase;
  record_.is_waiting = now.is_waiting;
  record_.operation = now.operation;
  record_.group = now.group;
  record_.number = now.number;
  record_.waits_for = now.waits_for;
  // One that cannot be written makes this rank look stopped once the job hangs; until then it does
  // no harm.
  (void)write_heartbeat(options_.folder, record_);
}

std::vector<std::optional<HeartbeatRecord>> Watchdog::read_all() const {
  std::vector<std::optional<HeartbeatRecord>> records;
  for (int rank = 0; rank < options_.world_size; ++rank) {
    records.push_back(read_heartbeat(options_.folder, rank));
    if (records.back().has_value() && records.back()->job_id != options_.job_id) {
      records.back().reset();
    }
  }
  return records;
}

// Looks at all ranks twice, so far apart that every live watchdog has written in between.
void Watchdog::judge() {
  std::vector<RankSighting> sightings;
  for (auto& record : read_all()) {
    sightings.push_back({std::move(record), std::nullopt});
  }
  const auto between_looks = std::max(3 * options_.interval, kShortestLook);
  for (auto waited = std::chrono::milliseconds(0); waited < between_looks;
       waited += options_.interval) {
    if (!sleep(options_.interval)) {
      return;
    }
    beat(options_.interval);
    if (record_.idle_ms == 0) {
      return;
    }
  }
  auto records = read_all();
  for (std::size_t rank = 0; rank < records.size(); ++rank) {
    sightings[rank].after = std::move(records[rank]);
  }
  if (const auto line = describe_hang(sightings, options_.deadline)) {
    end_job(*line, sightings);
  }
}

void Watchdog::end_job(const std::string& line, const std::vector<RankSighting>& sightings) const {
  const auto path = options_.folder / concat("hang-", options_.job_id);
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0 && errno == EEXIST) {
    // Another rank speaks. When it leaves, mpirun ends this one; should that fail, it leaves by
    // itself.
    std::this_thread::sleep_for(std::chrono::seconds(5));
    _exit(kExitHang);
  }
  write_all(STDERR_FILENO, line + '\n');
  if (file >= 0) {
    std::string report = line + '\n';
    for (const RankSighting& sighting : sightings) {
      if (sighting.after.has_value()) {
        report += to_line(*sighting.after) + '\n';
      }
    }
    write_all(file, report);
    fsync(file);
  }
  _exit(kExitHang);
}

}  // namespace fathom::parallel
