#include "cli/prepare_run.h"

#include "cli/session.h"
#include "configs/load.h"
#include "configs/resolve.h"
#include "parallel/comm/agree.h"

namespace fathom::cli {

config::RunConfig load_config(const Invocation& invocation, config::Use use) {
  config::Launch launch = invocation.session.launch();
  if (invocation.dry_run && launch.world_size == 1) {
    launch.world_size = 0;
  }
  config::RunConfig config;
  parallel::agree(invocation.session.world(), [&] {
    config = config::load(invocation.config, invocation.overrides);
    config::resolve(config, launch);
    config::validate(config, launch.world_size, use);
  });
  return config;
}

std::unique_ptr<RunFolder> open_run_folder(const Session& session,
                                           const config::RunConfig& config) {
  std::unique_ptr<RunFolder> folder;
  parallel::agree(session.world(), [&] {
    if (session.rank() == 0) {
      folder = std::make_unique<RunFolder>(config.run().directory());
      folder->write_config(config);
    }
  });
  return folder;
}

}  // namespace fathom::cli
