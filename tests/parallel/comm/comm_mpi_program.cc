// Started by mpirun: the checks of comm_checks.h over MPI, with tensors of an emulated device too,
// and what happens when ranks disagree. Exit code 0 when all holds.
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/stream.h"
#include "parallel/comm/mpi_communicator.h"
#include "parallel/mesh.h"
#include "tests/parallel/comm/comm_checks.h"
#include "tests/parallel/comm/comm_error.h"
#include "tests/support/contains.h"

namespace {

using namespace fathom;
using parallel::CommOptions;
using parallel::Communicator;
using parallel::MpiEnvironment;
using test::comm_error_of;

void check_transport(const MpiEnvironment& environment, Stream& stream) {
  const auto world = environment.make_world();
  FATHOM_CHECK(
      world->rank() == environment.rank() && world->world_size() == environment.world_size(),
      world->rank(), " of ", world->world_size());
  test::check_all_collectives(*world, stream);
  test::check_groups(*world, stream);
  // Messages in several parts.
  CommOptions options;
  options.max_message_bytes = 1000;
  const auto cut = environment.make_world(options);
  test::check_all_collectives(*cut, stream);
}

void check_mesh(const MpiEnvironment& environment, Stream& stream) {
  const auto world = environment.make_world();
  const parallel::MeshShape shape{2, world->world_size() / 2, 1, world->world_size() / 2};
  const parallel::Mesh mesh(*world, shape);
  for (Communicator* group : {&mesh.pipeline(), &mesh.data(), &mesh.tensor(), &mesh.expert(),
                              &mesh.plane(), &mesh.expert_data(), &mesh.shared_embedding()}) {
    test::check_all_reduce(*group, stream);
  }
}

void expect(const std::string& text, const std::string& part) {
  FATHOM_CHECK(test::contains(text, part), "\"", text, "\" does not say \"", part, '"');
}

// Rank 1 leaves out a collective: everybody, rank 1 included, ends in an error.
void check_out_of_step(const MpiEnvironment& environment, Stream& stream) {
  CommOptions options;
  options.deadline = std::chrono::milliseconds(300);
  const auto world = environment.make_world(options);
  const std::string error = comm_error_of([&] {
    Tensor x = Tensor::zeros(Shape{world->world_size()}, DType::kFloat32, stream);
    Tensor part = Tensor::zeros(Shape{1}, DType::kFloat32, stream);
    if (world->rank() != 1) {
      world->all_reduce(x, parallel::ReduceOp::kSum, stream).wait();
    }
    world->reduce_scatter(x, part, stream).wait();
  });
  expect(error, "of group world on rank");
  expect(error, "did not end within 0.3 s; missing: rank");
  expect(error, world->rank() == 1 ? "reduce_scatter number 0" : "all_reduce number 0");
  if (world->rank() != 1) {
    expect(error, "missing: rank 1");
  }
  expect(comm_error_of([&] { world->barrier(); }), "barrier of group world");
}

void check_lengths(const MpiEnvironment& environment, Stream& stream) {
  CommOptions options;
  options.deadline = std::chrono::milliseconds(300);
  const auto world = environment.make_world(options);
  Tensor x = Tensor::zeros(Shape{world->rank() == 0 ? 4 : 3}, DType::kFloat32, stream);
  const std::string error = comm_error_of([&] { world->broadcast(x, 0, stream).wait(); });
  if (world->rank() != 0) {
    expect(error, "receiving 12 bytes from rank 0");
  }
}

void run(const std::string& part, const MpiEnvironment& environment) {
  Stream stream;
  if (part == "collectives") {
    check_transport(environment, stream);
  } else if (part == "mesh") {
    check_mesh(environment, stream);
  } else if (part == "device") {
    Stream device_stream(Device{DeviceType::kCuda});
    check_transport(environment, device_stream);
  } else if (part == "disagreement") {
    check_out_of_step(environment, stream);
    check_lengths(environment, stream);
  } else {
    throw ConfigError(concat("no part \"", part, '"'));
  }
}

}  // namespace

int main(int argc, char** argv) {
  fathom::parallel::MpiEnvironment environment;
  try {
    run(argc > 1 ? argv[1] : "", environment);
  } catch (const std::exception& error) {
    std::cerr << "rank " << environment.rank() << ": " << error.what() << '\n' << std::flush;
    fathom::parallel::MpiEnvironment::abort(1);
  }
  environment.finish();
  return 0;
}
