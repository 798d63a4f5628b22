#include "cli/mpi_runtime.h"

#include <mpi.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <string_view>

#include "core/error.h"

namespace fathom::cli {
namespace {

constexpr int kMaxCores = CPU_SETSIZE;
using CoreMask = std::array<std::uint64_t, kMaxCores / 64>;

void check(int result, std::string_view call) {
  if (result != MPI_SUCCESS) {
    std::array<char, MPI_MAX_ERROR_STRING> text{};
    int length = 0;
    MPI_Error_string(result, text.data(), &length);
    throw CommError(
        concat(call, ": ", std::string_view(text.data(), static_cast<std::size_t>(length))));
  }
}

CoreMask cores_of_this_process() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CoreMask mask{};
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    mask[0] = 1;
    return mask;
  }
  for (int core = 0; core < kMaxCores; ++core) {
    if (CPU_ISSET(core, &set)) {
      mask[static_cast<std::size_t>(core / 64)] |= std::uint64_t{1} << (core % 64);
    }
  }
  return mask;
}

int reduced(int value, MPI_Op op) {
  int result = value;
  check(MPI_Allreduce(&value, &result, 1, MPI_INT, op, MPI_COMM_WORLD), "MPI_Allreduce");
  return result;
}

}  // namespace

MpiRuntime::MpiRuntime() {
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (provided < MPI_THREAD_SERIALIZED) {
    throw CommError(concat("this MPI has thread level ", provided, ", want MPI_THREAD_SERIALIZED (",
                           MPI_THREAD_SERIALIZED, ")"));
  }
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &world_size_), "MPI_Comm_size");

  MPI_Comm node = MPI_COMM_NULL;
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node),
        "MPI_Comm_split_type");
  check(MPI_Comm_size(node, &ranks_per_node_), "MPI_Comm_size");
  // A launcher may bind each rank to cores of its own: the node lends what they have together.
  CoreMask mask = cores_of_this_process();
  check(MPI_Allreduce(MPI_IN_PLACE, mask.data(), static_cast<int>(mask.size()), MPI_UINT64_T,
                      MPI_BOR, node),
        "MPI_Allreduce");
  check(MPI_Comm_free(&node), "MPI_Comm_free");
  int cores = 0;
  for (const std::uint64_t word : mask) {
    cores += std::popcount(word);
  }
  cores_per_node_ = reduced(cores, MPI_MIN);
  ranks_per_node_ = reduced(ranks_per_node_, MPI_MAX);
}

void MpiRuntime::finish() { check(MPI_Finalize(), "MPI_Finalize"); }

void MpiRuntime::abort(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  _exit(exit_code);
}

}  // namespace fathom::cli
