// Started by mpirun, ranks in order, with a GPU for each rank of a node: the checks of
// comm_checks.h over NCCL, with sums in its own order and in ours. Exit code 0 when all holds.
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string_view>

#include "core/error.h"
#include "core/stream.h"
#include "parallel/comm/mpi_communicator.h"
#include "parallel/comm/nccl_communicator.h"
#include "tests/parallel/comm/comm_checks.h"

namespace {

using namespace fathom;

void check_nccl_world(const parallel::MpiEnvironment& environment) {
  const Device device{DeviceType::kCuda, environment.rank() - environment.first_rank_of_node()};
  const auto host_world = environment.make_world();
  const auto world = parallel::make_nccl_world(*host_world, device, {});
  Stream fastest(device);
  test::check_collectives_in_any_order(*world, fastest);
  Stream fixed(device, 1, SumOrder::kFixed);
  test::check_all_collectives(*world, fixed);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--help") {
    std::cout << "mpirun -n RANKS comm_nccl_program    checks NCCL between the GPUs of a node\n";
    return 0;
  }
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);  // as the program does: cli/session.cc
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
  fathom::parallel::MpiEnvironment environment;
  try {
    check_nccl_world(environment);
  } catch (const std::exception& error) {
    std::cerr << "rank " << environment.rank() << ": " << error.what() << '\n' << std::flush;
    fathom::parallel::MpiEnvironment::abort(1);
  }
  environment.finish();
  return 0;
}
