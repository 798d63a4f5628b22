#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/communicator.h"

namespace fathom::parallel {

// Sizes of the axes. Ranks are numbered pipeline-major, then data, then tensor, so that a tensor
// group and then an expert group lie inside one node: rank = (pipeline * data_size + data) *
// tensor_size + tensor. The expert axis re-cuts the data x tensor plane of one pipeline rank for
// MoE layers (parallel folding, arXiv:2504.14960): plane rank = data * tensor_size + tensor; expert
// = plane % expert_size, expert_data = plane / expert_size.
struct MeshShape {
  int pipeline = 1;
  int data = 1;
  int tensor = 1;
  int expert = 1;  // divides data * tensor
  int world_size() const noexcept { return pipeline * data * tensor; }
  bool operator==(const MeshShape&) const = default;
};

struct MeshCoordinates {
  int pipeline = 0;
  int data = 0;
  int tensor = 0;
  int expert = 0;
  int expert_data = 0;
};
// Throws ConfigError unless all sizes are at least 1 and expert divides data x tensor.
MeshCoordinates coordinates_of(int rank, const MeshShape& shape);

// The world ranks of each group that a rank belongs to, in group order: a pure function, so that
// groups are made without asking the other ranks. See Mesh.
struct MeshGroups {
  std::vector<int> pipeline, data, tensor, expert, plane, expert_data;
  // First pipeline rank's data group, then the last's; empty on the pipeline ranks between them.
  std::vector<int> shared_embedding;
};
MeshGroups groups_of(int rank, const MeshShape& shape);

// The communicators of one rank, one per axis and per set of ranks that hold the same parameters.
class Mesh {
 public:
  // Collective over `world`, which must outlive the mesh. Throws ConfigError unless the product of
  // the axes is world.world_size() and expert divides data x tensor.
  Mesh(Communicator& world, const MeshShape& shape);

  const MeshShape& shape() const noexcept { return shape_; }
  const MeshCoordinates& coordinates() const noexcept { return coordinates_; }
  bool is_first_stage() const noexcept { return coordinates_.pipeline == 0; }
  bool is_last_stage() const noexcept { return coordinates_.pipeline == shape_.pipeline - 1; }

  Communicator& world() const noexcept { return *world_; }
  Communicator& pipeline() const noexcept { return *pipeline_; }
  // Replicas of what is cut by tensor.
  Communicator& data() const noexcept { return *data_; }
  Communicator& tensor() const noexcept { return *tensor_; }
  // The ranks that hold all experts together.
  Communicator& expert() const noexcept { return *expert_; }
  // Data x tensor: replicas of what is not cut.
  Communicator& plane() const noexcept { return *plane_; }
  // Replicas of this rank's experts.
  Communicator& expert_data() const noexcept { return *expert_data_; }
  // Replicas of an embedding that the first and the last pipeline rank both hold (MTP): their data
  // groups together. The data group itself when there is one pipeline rank; only to be used on the
  // first and the last pipeline rank.
  Communicator& shared_embedding() const;

 private:
  Communicator* world_;
  MeshShape shape_;
  MeshCoordinates coordinates_;
  std::unique_ptr<Communicator> pipeline_, data_, tensor_, expert_, plane_, expert_data_;
  std::unique_ptr<Communicator> shared_embedding_;
};

// What the last pipeline stage of each data rank gives, data rank by data rank, on every rank: as
// many numbers from each; what other stages give is left aside. Collective over the mesh.
std::vector<std::int64_t> gather_from_last_stages(std::span<const std::int64_t> mine,
                                                  const Mesh& mesh);

}  // namespace fathom::parallel
