#include "cli/session.h"

#include <chrono>

#include "configs/schema/run.pb.h"
#include "parallel/comm/agree.h"
#include "tests/support/catch.h"

namespace fathom::cli {

using namespace std::chrono_literals;

TEST_CASE("Ranks wait for each other longer than the watchdog of their run does") {
  const auto deadline_with = [](double timeout) {
    config::RunConfig config;
    config.mutable_train()->set_watchdog_timeout(timeout);
    Session session;
    session.start();
    CHECK(session.communication_options().deadline == 30min);  // until the config is known
    session.use_device(config);
    parallel::agree(session.world(), [] {});  // the world that was made anew serves
    CHECK(session.communication_options().heartbeat == &session.heartbeat());
    return session.communication_options().deadline;
  };
  CHECK(deadline_with(3) == 30min);
  CHECK(deadline_with(600) == 30min);
  CHECK(deadline_with(7200) == 4h);
}

}  // namespace fathom::cli
