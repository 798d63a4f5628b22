// Started by mpirun: trains nothing, step by step, until rank 2 misbehaves at step 3 as the first
// argument says. Second argument: the folder of the heartbeats.
#include <signal.h>

#include <chrono>
#include <ctime>
#include <exception>
#include <iostream>
#include <string>
#include <thread>

#include "core/stream.h"
#include "parallel/comm/mpi_communicator.h"
#include "parallel/comm/watchdog.h"
#include "parallel/mesh.h"

namespace {

using namespace fathom;
using namespace std::chrono_literals;

void misbehave(const std::string& how, parallel::Heartbeat& heartbeat,
               parallel::Communicator& world) {
  if (how == "stop") {
    std::this_thread::sleep_for(1s);  // until the last heartbeat has told the step
    raise(SIGSTOP);
  } else if (how == "loop") {
    volatile bool forever = true;
    while (forever) {
    }
  } else if (how == "kill") {
    std::cout << "killed at " << std::time(nullptr) << '\n' << std::flush;
    std::this_thread::sleep_for(200ms);  // mpirun passes the line on
    raise(SIGKILL);
  } else if (how == "disagree") {
    world.barrier();  // alone
  } else if (how == "slow") {
    // Longer than the deadline, but it moves: not a hang.
    for (int i = 0; i < 40; ++i) {
      heartbeat.count_progress();
      std::this_thread::sleep_for(100ms);
    }
  }
}

void run(const std::string& how, const parallel::MpiEnvironment& environment,
         const std::string& folder) {
  parallel::Heartbeat heartbeat;
  parallel::CommOptions options;
  options.heartbeat = &heartbeat;
  const auto world = environment.make_world(options);
  parallel::WatchdogOptions watchdog_options;
  watchdog_options.folder = folder;
  watchdog_options.rank = environment.rank();
  watchdog_options.world_size = environment.world_size();
  // Each test starts in an empty folder: there is no earlier job to be told from.
  watchdog_options.job_id = 1;
  watchdog_options.deadline = 1500ms;
  watchdog_options.interval = 200ms;
  const parallel::Watchdog watchdog(heartbeat, watchdog_options);
  const parallel::Mesh mesh(*world, {2, 2, 1, 2});
  Stream stream;
  Tensor x = Tensor::zeros(Shape{100}, DType::kFloat32, stream);
  for (int step = 1; step <= 5; ++step) {
    heartbeat.begin_step(step);
    heartbeat.begin_phase("forward");
    mesh.data().all_reduce(x, parallel::ReduceOp::kSum, stream).wait();
    if (step == 3 && environment.rank() == 2) {
      misbehave(how, heartbeat, *world);
    }
    heartbeat.begin_phase("optimizer step");
    mesh.pipeline().all_reduce(x, parallel::ReduceOp::kSum, stream).wait();
    world->all_reduce(x, parallel::ReduceOp::kSum, stream).wait();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    return 2;
  }
  parallel::MpiEnvironment environment;
  try {
    run(argv[1], environment, argv[2]);
  } catch (const std::exception& error) {
    std::cerr << "rank " << environment.rank() << ": " << error.what() << '\n' << std::flush;
    parallel::MpiEnvironment::abort(1);
  }
  environment.finish();
  return 0;
}
