#include "parallel/comm/nccl_communicator.h"

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/host_copy.h"
#include "parallel/comm/nccl_channel.h"
#include "tests/parallel/comm/comm_checks.h"
#include "tests/parallel/comm/comm_error.h"
#include "tests/support/catch.h"
#include "tests/support/contains.h"
#include "tests/support/run_ranks.h"

// Against a stand-in for NCCL that moves the emulated device's memory between threads: what is
// given to NCCL, how it is waited for and how it fails, not NCCL.
using namespace fathom;
using parallel::Communicator;
using test::comm_error_of;
using test::contains;
using test::run_ranks;

namespace {

constexpr Device kDevice{DeviceType::kCuda, 0};

using Body = std::function<void(Communicator& world, Stream& stream)>;

void run_nccl_ranks(int size, const Body& body, const parallel::CommOptions& options = {},
                    SumOrder order = SumOrder::kFastest) {
  run_ranks(
      size,
      [&](Communicator& host_world, Stream& /*fastest*/) {
        Stream stream(kDevice, 1, order);
        const auto world = parallel::make_nccl_world(host_world, kDevice, options);
        body(*world, stream);
      },
      {}, kDevice);
}

}  // namespace

TEST_CASE("NCCL ranks: every collective has its result and its traffic") {
  const int size = GENERATE(1, 2, 3, 4);
  CAPTURE(size);
  run_nccl_ranks(size, test::check_collectives_in_any_order);
}

TEST_CASE("NCCL ranks: sums and maxima of a fixed order are those of the tree over the ranks") {
  const int size = GENERATE(1, 2, 3, 4, 5, 7);
  CAPTURE(size);
  run_nccl_ranks(size, test::check_all_collectives, {}, SumOrder::kFixed);
}

TEST_CASE("NCCL ranks: groups of any order, also of one") {
  const int size = GENERATE(2, 4);
  CAPTURE(size);
  run_nccl_ranks(size, test::check_groups, {}, SumOrder::kFixed);
}

TEST_CASE("NCCL ranks: host tensors go through the host") {
  run_nccl_ranks(3, [](Communicator& world, Stream&) {
    Stream host_stream;
    test::check_all_collectives(world, host_stream);
  });
}

TEST_CASE("A rank that never comes: an error that names group, operation and deadline") {
  parallel::CommOptions options;
  options.deadline = std::chrono::seconds(3);
  const std::string error = comm_error_of([&] {
    run_nccl_ranks(
        2,
        [](Communicator& world, Stream& stream) {
          const std::vector<int> ranks{0, 1};
          const auto data = world.group(ranks, "data");
          Tensor x = Tensor::zeros(Shape{5}, DType::kFloat32, stream);
          data->all_reduce(x, parallel::ReduceOp::kSum, stream).wait();
          if (world.rank() == 0) {
            const std::string first = comm_error_of(
                [&] { data->all_reduce(x, parallel::ReduceOp::kSum, stream).wait(); });
            // From here on the rank goes nowhere.
            FATHOM_CHECK(comm_error_of([&] { world.barrier(); }) == first, first);
            throw CommError(first);
          }
        },
        options);
  });
  CAPTURE(error);
  CHECK(contains(error, "all_reduce number 1 of group data on rank 0 of 2"));
  CHECK(contains(error, "within 3 s"));
}

TEST_CASE("What NCCL refuses is an error with its words") {
  parallel::CommOptions options;
  options.deadline = std::chrono::seconds(5);
  const std::string error = comm_error_of([&] {
    run_nccl_ranks(
        2,
        [](Communicator& world, Stream& stream) {
          Tensor x = Tensor::zeros(Shape{3 + world.rank()}, DType::kFloat32, stream);
          world.broadcast(x, 0, stream).wait();
        },
        options);
  });
  CAPTURE(error);
  CHECK(contains(error, "broadcast number 0 of group world"));
  CHECK(contains(error, "invalid usage"));
}

TEST_CASE("A rank whose thread does not come back from the device ends when it is given up") {
  const pid_t child = fork();
  if (child == 0) {  // only this thread lives in it
    std::fclose(stderr);
    parallel::NcclRank rank(0, {});
    rank.abort_time = std::chrono::milliseconds(50);
    ncclUniqueId id;
    ncclGetUniqueId(&id);
    const auto channel = parallel::NcclChannel::make(id, parallel::ChannelUse::kCollectives,
                                                     {"", "data", 0, 1, 0}, rank);
    std::thread stuck([&] {
      Stream stream(kDevice);
      (void)channel->start("all_reduce", stream, {[](ncclComm_t, cudaStream_t) {
                             std::this_thread::sleep_for(std::chrono::hours(1));
                           }});
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    channel->abort();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 124);
}

TEST_CASE("Misuse of NCCL ranks is refused with the numbers involved") {
  run_nccl_ranks(2, [](Communicator& world, Stream& stream) {
    Tensor x = Tensor::zeros(Shape{3}, DType::kFloat32, stream);
    Tensor counts_of_tokens = Tensor::zeros(Shape{3}, DType::kInt32, stream);
    const std::vector<int> myself{world.rank()};
    const auto throws = [](const std::function<void()>& call) {
      try {
        call();
      } catch (const InternalError&) {
        return true;
      }
      return false;
    };
    FATHOM_CHECK(throws([&] { (void)world.all_gather(x, x, stream); }));
    FATHOM_CHECK(throws([&] { (void)world.broadcast(x, 2, stream); }));
    FATHOM_CHECK(throws([&] { (void)world.send(x, 1 - world.rank(), stream); }));
    FATHOM_CHECK(throws([&] { world.connect(myself); }));
    FATHOM_CHECK(throws(
        [&] { (void)world.all_reduce(counts_of_tokens, parallel::ReduceOp::kSum, stream); }));
  });
}
