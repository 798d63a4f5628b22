#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>

#include "parallel/comm/heartbeat_file.h"

namespace fathom::parallel {

// The exit code of a process that ends because ranks wait for ever; scripts and supervisors rely on
// it, as on those of cli/exit_code.h.
inline constexpr int kExitHang = 124;

// What two looks at a rank's heartbeat, some beats apart, say. No record: no file that can be read.
struct RankSighting {
  std::optional<HeartbeatRecord> before, after;
};

// One line on who holds up a job: `sightings` of ranks 0, 1, ... Nothing while some rank still
// moves: then it is not a hang, only long.
//   deadline  a rank that made no progress for so long does not move
// Guilty are, in this order: ranks whose heartbeat stands still; ranks that are busy outside any
// communication; else ranks wait for each other.
std::optional<std::string> describe_hang(std::span<const RankSighting> sightings,
                                         std::chrono::milliseconds deadline);

}  // namespace fathom::parallel
