#pragma once

#include <cstdint>
#include <memory>

#include "parallel/comm/communicator.h"
#include "parallel/comm/host_communicator.h"

namespace fathom::parallel {

// MPI in this process, from its first call to its last: the only place that initializes it. At most
// one object in the life of a process, which outlives all communicators and is used by one thread
// at a time. In a process that mpirun did not start the world has one rank.
class MpiEnvironment {
 public:
  // Collective. Throws CommError.
  MpiEnvironment();
  // Does not leave MPI: a rank that fails cannot wait for the others. mpirun ends a job of which a
  // rank exits without finish().
  ~MpiEnvironment() = default;
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  int rank() const noexcept { return rank_; }
  int world_size() const noexcept { return world_size_; }
  // The lowest of the ranks on this rank's node.
  int first_rank_of_node() const noexcept { return first_rank_of_node_; }
  // The most ranks on a node, and the fewest cores that the ranks of a node may run on together:
  // the same on all ranks.
  int ranks_per_node() const noexcept { return ranks_per_node_; }
  int cores_per_node() const noexcept { return cores_per_node_; }

  // All ranks, on host memory. Collective. Waits spin only where each rank of the node has a core
  // of its own.
  std::unique_ptr<Communicator> make_world(CommOptions options = {}) const;

  // Collective; the last call. Throws CommError.
  void finish();
  // Ends all ranks at once.
  [[noreturn]] static void abort(int exit_code);

 private:
  int rank_ = 0;
  int world_size_ = 1;
  int first_rank_of_node_ = 0;
  int ranks_per_node_ = 1;
  int cores_per_node_ = 1;
};

}  // namespace fathom::parallel
