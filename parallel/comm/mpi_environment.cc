#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"
#include "parallel/comm/mpi_check.h"
#include "parallel/comm/mpi_communicator.h"

namespace fathom::parallel {
namespace {

// Open MPI looks for networks at start, which takes 0.2 s; a job on one node needs shared memory
// alone. What the user chose stays.
void prefer_shared_memory() {
  const char* const size = std::getenv("OMPI_COMM_WORLD_SIZE");
  const char* const local_size = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (size != nullptr && local_size != nullptr && std::string_view(size) == local_size) {
    setenv("OMPI_MCA_pml", "ob1", 0);
    setenv("OMPI_MCA_btl", "self,vader", 0);
  }
}

// One bit a core that this process may run on.
using CoreMask = std::array<std::uint64_t, CPU_SETSIZE / 64>;

CoreMask cores_of_this_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CoreMask mask{};
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    mask[0] = 1;
    return mask;
  }
  for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) {
      mask[core / 64] |= std::uint64_t{1} << (core % 64);
    }
  }
  return mask;
}

int over_all_ranks(MPI_Op op, int value) {
  int result = value;
  check_mpi(MPI_Allreduce(&value, &result, 1, MPI_INT, op, MPI_COMM_WORLD), "MPI_Allreduce");
  return result;
}

}  // namespace

std::string mpi_error_text(int error) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(error, text.data(), &length);
  return std::string(text.data(), static_cast<std::size_t>(length));
}

void check_mpi(int error, std::string_view call) {
  if (error != MPI_SUCCESS) {
    throw CommError(concat(call, ": ", mpi_error_text(error)));
  }
}

MpiEnvironment::MpiEnvironment() {
  prefer_shared_memory();
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (provided < MPI_THREAD_SERIALIZED) {
    throw CommError(concat("this MPI offers thread level ", provided,
                           ", wanted MPI_THREAD_SERIALIZED (", MPI_THREAD_SERIALIZED, ")"));
  }
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &world_size_), "MPI_Comm_size");

  MPI_Comm node = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node),
            "MPI_Comm_split_type");
  int num_local_ranks = 1;
  check_mpi(MPI_Comm_size(node, &num_local_ranks), "MPI_Comm_size");
  first_rank_of_node_ = rank_;
  check_mpi(MPI_Bcast(&first_rank_of_node_, 1, MPI_INT, 0, node), "MPI_Bcast");
  // A launcher may bind each rank to cores of its own: the node lends what they have together.
  CoreMask mask = cores_of_this_process();
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, mask.data(), static_cast<int>(mask.size()), MPI_UINT64_T,
                          MPI_BOR, node),
            "MPI_Allreduce");
  check_mpi(MPI_Comm_free(&node), "MPI_Comm_free");
  int num_local_cores = 0;
  for (const std::uint64_t word : mask) {
    num_local_cores += std::popcount(word);
  }
  ranks_per_node_ = over_all_ranks(MPI_MAX, num_local_ranks);
  cores_per_node_ = over_all_ranks(MPI_MIN, num_local_cores);
}

void MpiEnvironment::finish() { check_mpi(MPI_Finalize(), "MPI_Finalize"); }

void MpiEnvironment::abort(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  _exit(exit_code);
}

}  // namespace fathom::parallel
