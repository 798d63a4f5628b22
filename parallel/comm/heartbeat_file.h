#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace fathom::parallel {

// One rank's heartbeat as the other ranks see it: the only thing that a watchdog knows of a process
// that does not answer.
struct HeartbeatRecord {
  int rank = 0;
  std::uint64_t job_id = 0;  // files of earlier jobs in the same folder are not taken for ours
  std::string host;
  int pid = 0;
  // Counts the writes: a file whose beat stands still is of a stopped or dead process.
  std::uint64_t beat = 0;
  bool has_ended = false;    // the watchdog was stopped in good order
  std::int64_t idle_ms = 0;  // since the rank made progress
  std::int64_t step = 0;
  std::string phase;
  bool is_waiting = false;       // in a communication
  std::string operation, group;  // of the last wait
  std::uint64_t number = 0;
  int waits_for = -1;  // world rank
};

// folder / "rank-N": a line of text of fixed length, overwritten in place. It is closed after each
// write, so that it reaches other nodes through a shared file system.
std::filesystem::path heartbeat_path(const std::filesystem::path& folder, int rank);
// False when the file could not be written.
bool write_heartbeat(const std::filesystem::path& folder, const HeartbeatRecord& record) noexcept;
// Nothing when there is no such file or it is not whole.
std::optional<HeartbeatRecord> read_heartbeat(const std::filesystem::path& folder, int rank);

std::string to_line(const HeartbeatRecord& record);
std::optional<HeartbeatRecord> from_line(const std::string& line);

}  // namespace fathom::parallel
