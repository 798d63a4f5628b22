#include "parallel/mesh.h"

#include <cstddef>
#include <span>

#include "core/error.h"

namespace fathom::parallel {
namespace {

void validate(const MeshShape& shape) {
  if (shape.pipeline < 1 || shape.data < 1 || shape.tensor < 1 || shape.expert < 1) {
    throw ConfigError(concat("mesh: pipeline ", shape.pipeline, ", data ", shape.data, ", tensor ",
                             shape.tensor, ", expert ", shape.expert, ": each is at least 1"));
  }
  if (shape.data * shape.tensor % shape.expert != 0) {
    throw ConfigError(concat("mesh.expert (", shape.expert,
                             ") does not divide mesh.data x mesh.tensor (", shape.data, " x ",
                             shape.tensor, ")"));
  }
}

// count ranks: first, first + stride, ...
std::vector<int> ranks_from(int first, int count, int stride) {
  std::vector<int> ranks;
  ranks.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    ranks.push_back(first + i * stride);
  }
  return ranks;
}

}  // namespace

MeshCoordinates coordinates_of(int rank, const MeshShape& shape) {
  validate(shape);
  FATHOM_CHECK(0 <= rank && rank < shape.world_size(), "rank ", rank, " of ", shape.world_size());
  const int plane_size = shape.data * shape.tensor;
  const int plane = rank % plane_size;
  MeshCoordinates coordinates;
  coordinates.pipeline = rank / plane_size;
  coordinates.data = plane / shape.tensor;
  coordinates.tensor = plane % shape.tensor;
  coordinates.expert = plane % shape.expert;
  coordinates.expert_data = plane / shape.expert;
  return coordinates;
}

MeshGroups groups_of(int rank, const MeshShape& shape) {
  const MeshCoordinates at = coordinates_of(rank, shape);
  const int plane_size = shape.data * shape.tensor;
  const int plane_begin = at.pipeline * plane_size;
  MeshGroups groups;
  groups.pipeline = ranks_from(rank % plane_size, shape.pipeline, plane_size);
  groups.data = ranks_from(plane_begin + at.tensor, shape.data, shape.tensor);
  groups.tensor = ranks_from(plane_begin + at.data * shape.tensor, shape.tensor, 1);
  groups.plane = ranks_from(plane_begin, plane_size, 1);
  groups.expert = ranks_from(plane_begin + at.expert_data * shape.expert, shape.expert, 1);
  groups.expert_data = ranks_from(plane_begin + at.expert, plane_size / shape.expert, shape.expert);
  if (at.pipeline == 0 || at.pipeline == shape.pipeline - 1) {
    groups.shared_embedding = ranks_from(at.tensor, shape.data, shape.tensor);
    if (shape.pipeline > 1) {
      const std::vector<int> last =
          ranks_from((shape.pipeline - 1) * plane_size + at.tensor, shape.data, shape.tensor);
      groups.shared_embedding.insert(groups.shared_embedding.end(), last.begin(), last.end());
    }
  }
  return groups;
}

Mesh::Mesh(Communicator& world, const MeshShape& shape) : world_(&world), shape_(shape) {
  validate(shape);
  if (shape.world_size() != world.world_size()) {
    throw ConfigError(concat("mesh: pipeline (", shape.pipeline, ") x data (", shape.data,
                             ") x tensor (", shape.tensor, ") = ", shape.world_size(),
                             " ranks, but the job has ", world.world_size()));
  }
  coordinates_ = coordinates_of(world.rank(), shape);
  const MeshGroups groups = groups_of(world.rank(), shape);
  pipeline_ = world.group(groups.pipeline, "pipeline");
  data_ = world.group(groups.data, "data");
  tensor_ = world.group(groups.tensor, "tensor");
  expert_ = world.group(groups.expert, "expert");
  plane_ = world.group(groups.plane, "plane");
  expert_data_ = world.group(groups.expert_data, "expert_data");
  if (shape.pipeline > 1 && !groups.shared_embedding.empty()) {
    shared_embedding_ = world.group(groups.shared_embedding, "shared_embedding");
  }
}

Communicator& Mesh::shared_embedding() const {
  if (shape_.pipeline == 1) {
    return *data_;
  }
  FATHOM_CHECK(shared_embedding_ != nullptr, "pipeline rank ", coordinates_.pipeline, " of ",
               shape_.pipeline, " holds no shared embedding");
  return *shared_embedding_;
}

std::vector<std::int64_t> gather_from_last_stages(std::span<const std::int64_t> mine,
                                                  const Mesh& mesh) {
  const auto of = [&](Communicator& group) {
    return std::vector<std::int64_t>(mine.size() * static_cast<std::size_t>(group.world_size()));
  };
  std::vector<std::int64_t> of_pipeline = of(mesh.pipeline());
  mesh.pipeline().all_gather_integers(mine, of_pipeline);
  std::vector<std::int64_t> all = of(mesh.data());
  mesh.data().all_gather_integers(std::span(of_pipeline).last(mine.size()), all);
  return all;
}

}  // namespace fathom::parallel
