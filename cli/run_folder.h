#pragma once

#include <filesystem>

#include "configs/schema/run.pb.h"

namespace fathom::cli {

// The folder of a run, held by one job at a time:
//   config.textproto   the resolved config of the last start
//   metrics.jsonl tensorboard/ checkpoints/ samples/ log/
//   trace.jsonl trace/ where train.trace asks for them
//   lock               who holds the folder; empty when nobody does
// Made by rank 0 alone. The lock is the kernel's (flock): it goes with the process, however that
// ends. Where a file system has no such locks, the host and process named in the file decide.
class RunFolder {
 public:
  // Creates the folder where needed and takes the lock. Throws ConfigError naming the holder when
  // another job has it, IoError when the folder cannot be written.
  explicit RunFolder(const std::filesystem::path& path);
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path log() const { return path_ / "log"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path tensorboard() const { return path_ / "tensorboard"; }

  // Replaces config.textproto. Throws IoError.
  void write_config(const config::RunConfig& config) const;

 private:
  std::filesystem::path path_;
  int lock_ = -1;  // file descriptor
};

}  // namespace fathom::cli
