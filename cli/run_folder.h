#pragma once

#include <filesystem>
#include <optional>

#include "cli/job_lock.h"
#include "configs/schema/run.pb.h"

namespace fathom::cli {

// The folder of a run, held by one job at a time:
//   config.textproto   the resolved config of the last start
//   metrics.jsonl tensorboard/ checkpoints/ samples/ log/
//   trace.jsonl trace/ where train.trace asks for them
//   lock               who holds the folder; empty when nobody does
// and the folder of its checkpoints, wherever that is: two runs that share it would replace and
// prune each other's. Made by rank 0 alone.
class RunFolder {
 public:
  // Creates the folders where needed and takes their locks. Throws as JobLock does.
  RunFolder(const std::filesystem::path& path, const std::filesystem::path& checkpoints);

  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path log() const { return path_ / "log"; }

  // Replaces config.textproto. Throws IoError.
  void write_config(const config::RunConfig& config) const;

 private:
  std::filesystem::path path_;
  JobLock lock_;
  std::optional<JobLock> checkpoints_lock_;  // none when it is the run folder itself
};

}  // namespace fathom::cli
