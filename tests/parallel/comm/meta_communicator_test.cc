#include "parallel/comm/meta_communicator.h"

#include <vector>

#include "core/error.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using parallel::Communicator;

namespace {

// A few of each operation; the bytes that left this rank.
std::int64_t traffic_of_a_step(Communicator& world, Stream& stream) {
  const std::int64_t size = world.world_size();
  Tensor full = Tensor::zeros(Shape{size * 10007}, DType::kFloat32, stream);
  Tensor shard = Tensor::zeros(Shape{10007}, DType::kFloat32, stream);
  Tensor norm = Tensor::zeros(Shape{13}, DType::kInt64, stream);
  world.reduce_scatter(full, shard, stream).wait();
  world.all_gather(shard, full, stream).wait();
  world.all_reduce(norm, parallel::ReduceOp::kSum, stream).wait();
  world.all_reduce(full, parallel::ReduceOp::kMax, stream).wait();
  world.broadcast(norm, 1, stream).wait();
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(size), 10007);
  Tensor arrived = Tensor::zeros(full.shape(), DType::kFloat32, stream);
  world.all_to_all(full, counts, arrived, counts, stream).wait();
  const int next = (world.rank() + 1) % world.world_size();
  const int previous = (world.rank() + world.world_size() - 1) % world.world_size();
  parallel::Work sent = world.send(shard, next, stream);
  world.recv(shard, previous, stream).wait();
  sent.wait();
  world.barrier();
  return world.bytes_sent();
}

}  // namespace

TEST_CASE("Planned ranks count the same traffic and memory as real ones") {
  constexpr int kSize = 3;
  std::vector<std::int64_t> real_bytes(kSize), real_peak(kSize);
  test::run_ranks(kSize, [&](Communicator& world, Stream& stream) {
    const auto rank = static_cast<std::size_t>(world.rank());
    real_bytes[rank] = traffic_of_a_step(world, stream);
    real_peak[rank] = stream.allocator()->peak_bytes();
  });
  for (int rank = 0; rank < kSize; ++rank) {
    const auto world = parallel::make_meta_world(rank, kSize);
    Stream stream(Device{DeviceType::kMeta});
    CHECK(traffic_of_a_step(*world, stream) == real_bytes[static_cast<std::size_t>(rank)]);
    CHECK(stream.allocator()->peak_bytes() == real_peak[static_cast<std::size_t>(rank)]);
  }
}

TEST_CASE("Meta tensors move nothing between real ranks, either") {
  test::run_ranks(2, [](Communicator& world, Stream&) {
    Stream meta(Device{DeviceType::kMeta});
    (void)traffic_of_a_step(world, meta);
  });
}

TEST_CASE("Planned ranks: integers behave as if all ranks gave the same") {
  const auto world = parallel::make_meta_world(1, 3);
  std::vector<std::int64_t> all(6);
  world->all_gather_integers(std::vector<std::int64_t>{7, 8}, all);
  CHECK(all == std::vector<std::int64_t>{7, 8, 7, 8, 7, 8});
}

TEST_CASE("Planned ranks refuse tensors that hold data, and groups know their place") {
  const auto world = parallel::make_meta_world(5, 8);
  const std::vector<int> ranks{1, 3, 5, 7};
  const auto data = world->group(ranks, "data");
  CHECK(data->rank() == 2);
  CHECK(data->world_size() == 4);
  Stream stream;
  Tensor x = Tensor::zeros(Shape{3}, DType::kFloat32, stream);
  CHECK_THROWS_AS((void)data->all_reduce(x, parallel::ReduceOp::kSum, stream), InternalError);
}
