#include "cli/session.h"

#include <sched.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/rank_device.h"
#include "cli/watchdog.h"
#include "configs/schema/run.pb.h"
#include "core/device_backend.h"
#include "core/error.h"
#include "parallel/comm/agree.h"
#include "parallel/comm/mpi_communicator.h"
#include "parallel/comm/nccl_communicator.h"
#include "parallel/comm/thread_communicator.h"
#include "parallel/comm/watchdog.h"

namespace fathom::cli {
namespace {

std::optional<int> environment_number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) {
    return std::nullopt;
  }
  const std::string_view view(text);
  int value = 0;
  const auto [stop, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  return error == std::errc() && stop == view.data() + view.size() ? std::optional(value)
                                                                   : std::nullopt;
}

// Read by CUDA when it starts; what the user has set stays. Loading a kernel at its first call, and
// more streams than queues to the device, would let work wait for a communication that waits for
// another rank.
// Before MPI starts, which may start CUDA, and whose threads read the environment.
void prepare_cuda_environment() {
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
}

const DeviceBackend& cuda_backend() {
  if (!has_device_backend(DeviceType::kCuda)) {
    throw ConfigError(
        "run.device is CUDA, and this program was built without it: configure it with "
        "-DFATHOM_CUDA=ON (docs/cuda.md), or set run.device=CPU");
  }
  const DeviceBackend& backend = device_backend(DeviceType::kCuda);
  if (backend.num_devices() == 0) {
    throw ConfigError(
        "run.device is CUDA, and the driver shows no CUDA device on this node (nvidia-smi lists "
        "them; CUDA_VISIBLE_DEVICES may hide them): set run.device=CPU, or start on a node that "
        "has one");
  }
  return backend;
}

}  // namespace

LaunchEnvironment read_launch_environment() {
  // Open MPI's mpirun; MPICH's and Slurm's PMI-2; Slurm's PMIx, which does not say how many ranks
  // there are.
  constexpr std::array<std::pair<const char*, const char*>, 3> kLaunchers{
      {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
       {"PMI_RANK", "PMI_SIZE"},
       {"PMIX_RANK", "SLURM_STEP_NUM_TASKS"}}};
  for (const auto& [rank_name, size_name] : kLaunchers) {
    const std::optional<int> rank = environment_number(rank_name);
    const std::optional<int> size = environment_number(size_name);
    if (rank) {
      return {.is_parallel = size.value_or(2) > 1, .rank = *rank};
    }
  }
  return {.num_apart = environment_number("SLURM_STEP_NUM_TASKS").value_or(0)};
}

int cores_of_this_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

Session::Session() : environment_(read_launch_environment()) { options_.heartbeat = &heartbeat_; }

Session::~Session() = default;

int Session::rank() const noexcept { return world_ ? world_->rank() : environment_.rank; }

void Session::start() {
  FATHOM_CHECK(!is_started());
  if (environment_.num_apart > 1) {
    environment_.rank = environment_number("SLURM_PROCID").value_or(0);  // the first one says it
    throw ConfigError(concat("srun started ", environment_.num_apart,
                             " processes without MPI: use srun --mpi=pmix, or mpirun (for a run of "
                             "its own in each of them, unset SLURM_STEP_NUM_TASKS)"));
  }
  if (environment_.is_parallel) {
    prepare_cuda_environment();
    mpi_ = std::make_unique<parallel::MpiEnvironment>();
  }
  world_ = make_world();
}

std::unique_ptr<parallel::Communicator> Session::make_world() const {
  return mpi_ ? mpi_->make_world(options_)
              : std::move(parallel::make_thread_world(1, options_).front());
}

parallel::Communicator& Session::world() const {
  FATHOM_CHECK(is_started());
  return *world_;
}

config::Launch Session::launch() const {
  if (!mpi_) {
    return {.world_size = 1, .ranks_per_node = 1, .cores_per_node = cores_of_this_process()};
  }
  return {.world_size = mpi_->world_size(),
          .ranks_per_node = mpi_->ranks_per_node(),
          .cores_per_node = mpi_->cores_per_node()};
}

void Session::use_device(const config::RunConfig& config) {
  options_.deadline = parallel::deadline_of_waits(watchdog_deadline(config));
  world_ = make_world();
  const config::Run& run = config.run();
  if (run.device() == config::Run::CPU) {
    return;
  }
  DeviceView mine;
  parallel::agree(world(), [&] {
    const DeviceBackend& backend = cuda_backend();
    mine = {mpi_ ? mpi_->first_rank_of_node() : 0, backend.num_devices(), backend.unique_id(0)};
  });
  const std::vector<DeviceView> views = gather_device_views(world(), mine);
  parallel::agree(world(), [&] {
    device_ = {DeviceType::kCuda,
               choose_device(views, world().rank(), run.transport() != config::Run::NCCL)};
  });
  if (run.transport() == config::Run::NCCL && world().world_size() > 1) {
    if (config.numerics().deterministic()) {
      // Sums by the switches of NVLink differ from call to call. What the user has set stays. Not
      // before MPI starts, as the rest is: it takes the config to know.
      setenv("NCCL_NVLS_ENABLE", "0", 0);
    }
    device_world_ = parallel::make_nccl_world(world(), device_, options_);
  }
}

parallel::Communicator& Session::device_world() const {
  return device_world_ ? *device_world_ : world();
}

void Session::finish() {
  device_world_.reset();
  world_.reset();
  if (mpi_) {
    mpi_->finish();
    mpi_.reset();
  }
}

void Session::abort(int exit_code) const {
  if (mpi_) {
    parallel::MpiEnvironment::abort(exit_code);
  }
  std::_Exit(exit_code);
}

}  // namespace fathom::cli
