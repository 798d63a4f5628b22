#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>

#include "cli/session.h"
#include "configs/schema/run.pb.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/watchdog.h"

namespace fathom::cli {

// A number that tells this job from those before it in the same folder; rank 0 draws it.
// Collective.
std::uint64_t draw_job_id(parallel::Communicator& world);

// train.watchdog_timeout.
std::chrono::milliseconds watchdog_deadline(const config::RunConfig& config);

// Of a watchdog over the ranks of the session, with that deadline.
parallel::WatchdogOptions watchdog_options(const Session& session, const config::RunConfig& config,
                                           const std::filesystem::path& folder,
                                           std::uint64_t job_id);

}  // namespace fathom::cli
