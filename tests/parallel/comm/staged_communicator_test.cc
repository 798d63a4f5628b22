#include "parallel/comm/staged_communicator.h"

#include <cstdint>
#include <vector>

#include "core/error.h"
#include "core/host_copy.h"
#include "tests/parallel/comm/comm_checks.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using parallel::Communicator;
using test::run_ranks;

namespace {

constexpr Device kDevice{DeviceType::kCuda, 0};

}  // namespace

TEST_CASE("Device tensors: every collective of thread ranks has the results of host tensors") {
  const int size = GENERATE(1, 2, 3, 5);
  CAPTURE(size);
  run_ranks(size, test::check_all_collectives, {}, kDevice);
}

TEST_CASE("Device tensors: groups stage theirs, too") {
  const int size = GENERATE(1, 4);
  CAPTURE(size);
  run_ranks(size, test::check_groups, {}, kDevice);
}

TEST_CASE("What a group of one copies on the device has the rows asked for") {
  run_ranks(
      1,
      [](Communicator& world, Stream& stream) {
        const std::vector<std::int32_t> values{5, 6, 7, 8};
        Tensor x = Tensor::empty(Shape{2, 2}, DType::kInt32, stream);
        from_host<std::int32_t>(values, x, stream);
        Tensor y = Tensor::zeros(Shape{2, 2}, DType::kInt32, stream);
        const std::vector<std::int64_t> rows{2};
        world.all_to_all(x, rows, y, rows, stream).wait();
        FATHOM_CHECK(to_host<std::int32_t>(y, stream) == values);
      },
      {}, kDevice);
  auto world = parallel::make_thread_world(1);
  Stream stream(kDevice);
  Tensor x = Tensor::zeros(Shape{3}, DType::kFloat32, stream);
  Tensor y = Tensor::zeros(Shape{4}, DType::kFloat32, stream);
  CHECK_THROWS_AS((void)world[0]->all_gather(x, y, stream), InternalError);
}

TEST_CASE("A device tensor that was sent may be written again once the send has begun") {
  run_ranks(
      2,
      [](Communicator& world, Stream& stream) {
        const std::vector<float> first{1, 2, 3}, later{9, 9, 9};
        Tensor x = Tensor::zeros(Shape{3}, DType::kFloat32, stream);
        if (world.rank() == 0) {
          from_host<float>(first, x, stream);
          parallel::Work sent = world.send(x, 1, stream);
          from_host<float>(later, x, stream);
          world.barrier();
          sent.wait();
        } else {
          world.barrier();
          world.recv(x, 0, stream).wait();
          FATHOM_CHECK(to_host<float>(x, stream) == first);
        }
      },
      {}, kDevice);
}
