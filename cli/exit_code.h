#pragma once

#include <exception>
#include <string>

namespace fathom::cli {

// How the program ends; scripts and supervisors rely on these numbers and on parallel::kExitHang
// (parallel/comm/hang.h).
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitStopped = 75;   // on request, after a checkpoint: resume continues
inline constexpr int kExitUnusable = 93;  // config or data: starting again will not help

// The exit code and the text for the user of an error that ends the program.
struct Ending {
  int exit_code = kExitDone;
  std::string message;
};
// While a run is prepared, a file that cannot be read is for the user to mend, like the config:
// kExitUnusable, unless it may be read another time. Later it is kExitFailed.
enum class Phase { kPreparing, kRunning };
Ending ending_of(const std::exception& error, Phase phase);

}  // namespace fathom::cli
