#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "cli/exit_code.h"
#include "configs/resolve.h"
#include "core/device.h"
#include "parallel/comm/communicator.h"
#include "parallel/comm/heartbeat.h"
#include "parallel/comm/host_communicator.h"
#include "parallel/comm/mpi_communicator.h"

namespace fathom::cli {

// What the launcher (mpirun, srun) says about this process in its environment, before any MPI call.
struct LaunchEnvironment {
  bool is_parallel = false;  // one of several ranks
  int rank = 0;
  // How many processes srun started that know nothing of each other, since it was not told to set
  // up MPI; 0 where a launcher did.
  int num_apart = 0;
};
LaunchEnvironment read_launch_environment();
// Cores that this process may run on.
int cores_of_this_process();

// The ranks that were started together. A process on its own, and a command that needs no other
// rank, never touches MPI.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // As the launcher says, until start(); then as the world says.
  int rank() const noexcept;
  // When this was made, as the program's first act.
  std::chrono::steady_clock::time_point start_of_program() const noexcept { return begin_; }
  bool is_parallel() const noexcept { return environment_.is_parallel; }

  // Joins the other ranks; collective. Throws CommError, and ConfigError where srun started several
  // processes without MPI: each would take itself for the whole run.
  void start();
  bool is_started() const noexcept { return world_ != nullptr; }
  // These need start().
  parallel::Communicator& world() const;
  config::Launch launch() const;
  // Chooses the device that this rank computes on and how its tensors reach other ranks, and how
  // long it may wait for them (train.watchdog_timeout); collective. A world() from before is gone.
  // Throws ConfigError and DeviceError, on all ranks alike, when the node has no device for it.
  void use_device(const config::RunConfig& config);
  // These need use_device(): the device, and all ranks for tensors that are on it.
  Device device() const noexcept { return device_; }
  parallel::Communicator& device_world() const;
  // What this rank is doing, for a watchdog; the communicators write it too.
  parallel::Heartbeat& heartbeat() noexcept { return heartbeat_; }

  // Leaves the other ranks in good order; collective. Nothing to do when not started.
  void finish();
  // Ends all ranks at once, without their consent.
  [[noreturn]] void abort(int exit_code) const;

  // What an unreadable file means depends on it: see ending_of().
  Phase phase() const noexcept { return phase_; }
  void begin_running() noexcept { phase_ = Phase::kRunning; }

 private:
  std::unique_ptr<parallel::Communicator> make_world() const;

  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  LaunchEnvironment environment_;
  Phase phase_ = Phase::kPreparing;
  parallel::Heartbeat heartbeat_;
  parallel::CommOptions options_;
  std::unique_ptr<parallel::MpiEnvironment> mpi_;  // null for a process on its own
  std::unique_ptr<parallel::Communicator> world_;
  Device device_;
  std::unique_ptr<parallel::Communicator> device_world_;  // null: world_ serves
};

}  // namespace fathom::cli
