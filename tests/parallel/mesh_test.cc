#include "parallel/mesh.h"

#include <algorithm>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "parallel/comm/meta_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using parallel::coordinates_of;
using parallel::groups_of;
using parallel::Mesh;
using parallel::MeshCoordinates;
using parallel::MeshGroups;
using parallel::MeshShape;

namespace {

std::vector<MeshShape> many_shapes() {
  std::vector<MeshShape> shapes;
  for (const int pipeline : {1, 2, 3}) {
    for (const int data : {1, 2, 3, 4}) {
      for (const int tensor : {1, 2, 4}) {
        for (int expert = 1; expert <= data * tensor; ++expert) {
          if (data * tensor % expert == 0) {
            shapes.push_back({pipeline, data, tensor, expert});
          }
        }
      }
    }
  }
  return shapes;
}

// All ranks that agree with `rank` in what `key` says, ascending.
template <class Key>
std::vector<int> ranks_like(int rank, const MeshShape& shape, Key key) {
  std::vector<int> ranks;
  for (int other = 0; other < shape.world_size(); ++other) {
    if (key(coordinates_of(other, shape)) == key(coordinates_of(rank, shape))) {
      ranks.push_back(other);
    }
  }
  return ranks;
}

using C = MeshCoordinates;

}  // namespace

TEST_CASE("Coordinates follow the rank formulas") {
  // pipeline 2 x data 3 x tensor 2, experts over 3: rank 9 = (1 * 3 + 1) * 2 + 1, plane rank 3.
  const C at = coordinates_of(9, {2, 3, 2, 3});
  CHECK(at.pipeline == 1);
  CHECK(at.data == 1);
  CHECK(at.tensor == 1);
  CHECK(at.expert == 0);
  CHECK(at.expert_data == 1);
  for (const MeshShape& shape : many_shapes()) {
    for (int rank = 0; rank < shape.world_size(); ++rank) {
      const C c = coordinates_of(rank, shape);
      const int plane = c.data * shape.tensor + c.tensor;
      REQUIRE((c.pipeline * shape.data + c.data) * shape.tensor + c.tensor == rank);
      REQUIRE(c.expert_data * shape.expert + c.expert == plane);
      REQUIRE((c.tensor < shape.tensor && c.data < shape.data && c.expert < shape.expert));
    }
  }
}

TEST_CASE("A group of an axis holds the ranks that agree in all other coordinates") {
  for (const MeshShape& shape : many_shapes()) {
    for (int rank = 0; rank < shape.world_size(); ++rank) {
      const MeshGroups groups = groups_of(rank, shape);
      const auto like = [&](auto key) { return ranks_like(rank, shape, key); };
      REQUIRE(groups.pipeline == like([](const C& c) { return std::tuple(c.data, c.tensor); }));
      REQUIRE(groups.data == like([](const C& c) { return std::tuple(c.pipeline, c.tensor); }));
      REQUIRE(groups.tensor == like([](const C& c) { return std::tuple(c.pipeline, c.data); }));
      REQUIRE(groups.plane == like([](const C& c) { return c.pipeline; }));
      REQUIRE(groups.expert ==
              like([](const C& c) { return std::tuple(c.pipeline, c.expert_data); }));
      REQUIRE(groups.expert_data ==
              like([](const C& c) { return std::tuple(c.pipeline, c.expert); }));
    }
  }
}

TEST_CASE("A shared embedding lives on the first and the last pipeline rank of a tensor column") {
  for (const MeshShape& shape : many_shapes()) {
    for (int rank = 0; rank < shape.world_size(); ++rank) {
      const C at = coordinates_of(rank, shape);
      std::vector<int> want;
      for (int other = 0; other < shape.world_size(); ++other) {
        const C c = coordinates_of(other, shape);
        if (c.tensor == at.tensor && (c.pipeline == 0 || c.pipeline == shape.pipeline - 1)) {
          want.push_back(other);
        }
      }
      const bool holds_it = at.pipeline == 0 || at.pipeline == shape.pipeline - 1;
      REQUIRE(groups_of(rank, shape).shared_embedding == (holds_it ? want : std::vector<int>{}));
    }
  }
}

TEST_CASE("Planned meshes have the groups of the formulas, without any other rank") {
  for (const MeshShape& shape : many_shapes()) {
    for (int rank = 0; rank < shape.world_size(); ++rank) {
      const auto world = parallel::make_meta_world(rank, shape.world_size());
      const Mesh mesh(*world, shape);
      const C at = coordinates_of(rank, shape);
      REQUIRE(mesh.pipeline().world_size() == shape.pipeline);
      REQUIRE(mesh.pipeline().rank() == at.pipeline);
      REQUIRE(mesh.data().world_size() == shape.data);
      REQUIRE(mesh.data().rank() == at.data);
      REQUIRE(mesh.tensor().world_size() == shape.tensor);
      REQUIRE(mesh.tensor().rank() == at.tensor);
      REQUIRE(mesh.expert().world_size() == shape.expert);
      REQUIRE(mesh.expert().rank() == at.expert);
      REQUIRE(mesh.plane().world_size() == shape.data * shape.tensor);
      REQUIRE(mesh.plane().rank() == at.data * shape.tensor + at.tensor);
      REQUIRE(mesh.expert_data().world_size() == shape.data * shape.tensor / shape.expert);
      REQUIRE(mesh.expert_data().rank() == at.expert_data);
      if (mesh.is_first_stage() || mesh.is_last_stage()) {
        REQUIRE(mesh.shared_embedding().world_size() == shape.data * std::min(shape.pipeline, 2));
      } else {
        REQUIRE_THROWS_AS(mesh.shared_embedding(), InternalError);
      }
    }
  }
}

TEST_CASE("The groups of a mesh of 12 ranks really connect its members") {
  const MeshShape shape{3, 2, 2, 2};
  test::run_ranks(12, [&](parallel::Communicator& world, Stream& stream) {
    const Mesh mesh(world, shape);
    const MeshGroups groups = groups_of(world.rank(), shape);
    const auto check = [&](parallel::Communicator& group, const std::vector<int>& members) {
      Tensor sum = Tensor::zeros(Shape{1}, DType::kInt64, stream);
      sum.mutable_data<std::int64_t>()[0] = std::int64_t{1} << world.rank();
      group.all_reduce(sum, parallel::ReduceOp::kSum, stream).wait();
      std::int64_t want = 0;
      for (const int rank : members) {
        want += std::int64_t{1} << rank;
      }
      FATHOM_CHECK(sum.data<std::int64_t>()[0] == want, group.name(), " of rank ", world.rank(),
                   ": ", sum.data<std::int64_t>()[0], ", want ", want);
    };
    check(mesh.pipeline(), groups.pipeline);
    check(mesh.data(), groups.data);
    check(mesh.tensor(), groups.tensor);
    check(mesh.expert(), groups.expert);
    check(mesh.plane(), groups.plane);
    check(mesh.expert_data(), groups.expert_data);
    if (mesh.is_first_stage() || mesh.is_last_stage()) {
      check(mesh.shared_embedding(), groups.shared_embedding);
    }
  });
}

TEST_CASE("A mesh that does not fit the job is a config error with the numbers") {
  const auto world = parallel::make_meta_world(0, 8);
  const auto message_of = [&](const MeshShape& shape) -> std::string {
    try {
      const Mesh mesh(*world, shape);
    } catch (const ConfigError& error) {
      return error.message();
    }
    return "";
  };
  CHECK(message_of({2, 2, 1, 1}) ==
        "mesh: pipeline (2) x data (2) x tensor (1) = 4 ranks, but the job has 8");
  CHECK(message_of({1, 4, 2, 3}) ==
        "mesh.expert (3) does not divide mesh.data x mesh.tensor (4 x 2)");
  CHECK(message_of({0, 4, 2, 1}).find("pipeline 0") != std::string::npos);
}

TEST_CASE("What the last stages give reaches every rank, data rank by data rank") {
  for (const MeshShape& shape :
       {MeshShape{1, 1, 1, 1}, MeshShape{3, 2, 1, 2}, MeshShape{2, 2, 2, 1}}) {
    std::vector<std::vector<std::int64_t>> received(static_cast<std::size_t>(shape.world_size()));
    test::run_ranks(shape.world_size(), [&](parallel::Communicator& world, Stream&) {
      const Mesh mesh(world, shape);
      const MeshCoordinates& at = mesh.coordinates();
      received[static_cast<std::size_t>(world.rank())] = parallel::gather_from_last_stages(
          std::vector<std::int64_t>{100 * at.pipeline + at.data, at.data}, mesh);
    });
    std::vector<std::int64_t> want;
    for (int data = 0; data < shape.data; ++data) {
      want.insert(want.end(), {100 * (shape.pipeline - 1) + data, data});
    }
    for (const auto& of_rank : received) {
      CHECK(of_rank == want);
    }
  }
}
