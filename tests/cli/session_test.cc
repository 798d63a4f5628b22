#include "cli/session.h"

#include "configs/schema/run.pb.h"
#include "parallel/comm/agree.h"
#include "tests/support/catch.h"

namespace fathom::cli {

TEST_CASE("The world that use_device() makes anew serves, and tells the heartbeat what it does") {
  Session session;
  session.start();
  session.use_device(config::RunConfig());
  parallel::agree(session.world(), [] {});
  const auto progress = session.heartbeat().read().progress;
  parallel::agree(session.world(), [] {});
  CHECK(session.heartbeat().read().progress > progress);
}

}  // namespace fathom::cli
