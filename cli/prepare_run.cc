#include "cli/prepare_run.h"

#include <iostream>

#include "cli/session.h"
#include "configs/load.h"
#include "configs/resolve.h"
#include "parallel/comm/agree.h"

namespace fathom::cli {

config::RunConfig load_config(const Invocation& invocation, config::Use use) {
  config::Launch launch = invocation.session.launch();
  const bool has_no_ranks = invocation.dry_run && launch.world_size == 1;
  launch.world_size = has_no_ranks ? 0 : launch.world_size;
  config::RunConfig config;
  parallel::agree(invocation.session.world(), [&] {
    config = config::load(invocation.config, invocation.overrides);
    if (has_no_ranks && config.mesh().data() == 0) {
      std::cout << "mesh.data is not given: a dry run has no ranks to fill it from and takes 1\n"
                << std::flush;
    }
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
      folder =
          std::make_unique<RunFolder>(config.run().directory(), config.checkpoint().directory());
      folder->write_config(config);
    }
  });
  return folder;
}

}  // namespace fathom::cli
