#include "cli/watchdog.h"

#include <unistd.h>

#include "parallel/comm/sums.h"

namespace fathom::cli {

std::uint64_t draw_job_id(parallel::Communicator& world) {
  const std::int64_t mine =
      std::chrono::system_clock::now().time_since_epoch().count() ^ (std::int64_t{getpid()} << 40);
  return static_cast<std::uint64_t>(parallel::from_rank_0(mine, world));
}

std::chrono::milliseconds watchdog_deadline(const config::RunConfig& config) {
  return std::chrono::milliseconds(
      static_cast<std::int64_t>(config.train().watchdog_timeout() * 1e3));
}

parallel::WatchdogOptions watchdog_options(const Session& session, const config::RunConfig& config,
                                           const std::filesystem::path& folder,
                                           std::uint64_t job_id) {
  parallel::WatchdogOptions options;
  options.folder = folder;
  options.rank = session.rank();
  options.world_size = session.world().world_size();
  options.job_id = job_id;
  options.deadline = watchdog_deadline(config);
  options.interval = parallel::heartbeat_interval(options.deadline);
  return options;
}

}  // namespace fathom::cli
