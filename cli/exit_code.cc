#include "cli/exit_code.h"

#include "core/error.h"

namespace fathom::cli {

Ending ending_of(const std::exception& error, Phase phase) {
  if (const auto* config = dynamic_cast<const ConfigError*>(&error)) {
    return {kExitUnusable, config->message()};
  }
  if (const auto* io = dynamic_cast<const IoError*>(&error)) {
    const bool is_for_the_user = phase == Phase::kPreparing && !io->may_pass();
    return {is_for_the_user ? kExitUnusable : kExitFailed, io->message()};
  }
  if (const auto* comm = dynamic_cast<const CommError*>(&error)) {
    return {kExitFailed, comm->message()};
  }
  return {kExitFailed, error.what()};  // ours to mend: with its place in the source
}

}  // namespace fathom::cli
