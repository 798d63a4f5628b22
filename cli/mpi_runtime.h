#pragma once

namespace fathom::cli {

// MPI from the first call to the last, for one process. At most one object in the life of the
// process.
class MpiRuntime {
 public:
  // Collective. Throws CommError.
  MpiRuntime();
  // Does not leave MPI: a rank that fails may not wait for the others. See finish().
  ~MpiRuntime() = default;
  MpiRuntime(const MpiRuntime&) = delete;
  MpiRuntime& operator=(const MpiRuntime&) = delete;

  int rank() const noexcept { return rank_; }
  int world_size() const noexcept { return world_size_; }
  // The most ranks on a node, and the fewest cores that the ranks of a node may run on together:
  // the same on all ranks.
  int ranks_per_node() const noexcept { return ranks_per_node_; }
  int cores_per_node() const noexcept { return cores_per_node_; }

  // Collective; the last call.
  void finish();
  // Ends all ranks at once.
  [[noreturn]] static void abort(int exit_code);

 private:
  int rank_ = 0;
  int world_size_ = 1;
  int ranks_per_node_ = 1;
  int cores_per_node_ = 1;
};

}  // namespace fathom::cli
