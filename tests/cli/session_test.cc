#include "cli/session.h"

#include <cstdlib>

#include "configs/schema/run.pb.h"
#include "core/error.h"
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

TEST_CASE(
    "Processes that srun started without MPI are refused, those of mpirun in a step are not") {
  setenv("SLURM_STEP_NUM_TASKS", "8", 1);
  setenv("SLURM_PROCID", "3", 1);
  {
    Session session;
    CHECK(session.rank() == 0);  // of a command that needs no other rank
    CHECK_THROWS_WITH(session.start(), Catch::Contains("srun started 8 processes without MPI: use "
                                                       "srun --mpi=pmix, or mpirun"));
    CHECK(session.rank() == 3);
  }
  setenv("OMPI_COMM_WORLD_RANK", "1", 1);
  setenv("OMPI_COMM_WORLD_SIZE", "2", 1);
  CHECK(read_launch_environment().is_parallel);
  CHECK(read_launch_environment().num_apart == 0);
  unsetenv("OMPI_COMM_WORLD_RANK");
  unsetenv("OMPI_COMM_WORLD_SIZE");
  setenv("SLURM_STEP_NUM_TASKS", "1", 1);
  Session alone;
  CHECK_NOTHROW(alone.start());
  unsetenv("SLURM_STEP_NUM_TASKS");
  unsetenv("SLURM_PROCID");
}

}  // namespace fathom::cli
