#include "parallel/comm/thread_communicator.h"

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "core/error.h"
#include "tests/parallel/comm/comm_checks.h"
#include "tests/parallel/comm/comm_error.h"
#include "tests/support/catch.h"
#include "tests/support/contains.h"
#include "tests/support/run_ranks.h"

using namespace fathom;
using parallel::Communicator;
using test::comm_error_of;
using test::contains;
using test::run_ranks;

namespace {

parallel::CommOptions with_deadline(std::chrono::milliseconds deadline) {
  parallel::CommOptions options;
  options.deadline = deadline;
  return options;
}

}  // namespace

TEST_CASE(
    "Thread ranks: every collective equals plain loops, bit for bit, and its traffic the formula") {
  const int size = GENERATE(1, 2, 3, 4, 7, 8);
  CAPTURE(size);
  run_ranks(size, test::check_all_collectives);
}

TEST_CASE("Thread ranks: groups, of any order, are independent of each other") {
  const int size = GENERATE(1, 2, 5, 8);
  CAPTURE(size);
  run_ranks(size, test::check_groups);
}

TEST_CASE(
    "A rank that stays away: the wait ends with the group, the operation and the missing ranks") {
  const std::string error = comm_error_of([] {
    run_ranks(
        3,
        [](Communicator& world, Stream& stream) {
          const std::vector<int> ranks{2, 1};
          if (world.rank() == 0) {
            return;
          }
          const auto pair = world.group(ranks, "data");
          Tensor x = Tensor::zeros(Shape{5}, DType::kFloat32, stream);
          pair->all_reduce(x, parallel::ReduceOp::kSum, stream).wait();
          if (world.rank() == 1) {
            pair->all_reduce(x, parallel::ReduceOp::kSum, stream).wait();
          }
        },
        with_deadline(std::chrono::milliseconds(1500)));
  });
  CAPTURE(error);
  CHECK(contains(error, "all_reduce number 1 of group data on rank 1 of 2"));
  CHECK(contains(error, "1.5 s"));
  CHECK(contains(error, "missing: rank 0 (world rank 2)"));
}

TEST_CASE("Ranks out of step end in an error, not in wrong numbers") {
  const std::string error = comm_error_of([] {
    run_ranks(
        4,
        [](Communicator& world, Stream& stream) {
          Tensor x = Tensor::zeros(Shape{4}, DType::kFloat32, stream);
          Tensor part = Tensor::zeros(Shape{1}, DType::kFloat32, stream);
          if (world.rank() != 2) {
            world.all_reduce(x, parallel::ReduceOp::kSum, stream).wait();
          }
          world.reduce_scatter(x, part, stream).wait();
        },
        with_deadline(std::chrono::milliseconds(100)));
  });
  CAPTURE(error);
  CHECK((contains(error, "all_reduce") || contains(error, "reduce_scatter")));
}

TEST_CASE("A message of another length than expected is an error that says both") {
  const std::string error = comm_error_of([] {
    run_ranks(2, [](Communicator& world, Stream& stream) {
      Tensor x = Tensor::zeros(Shape{world.rank() == 0 ? 3 : 4}, DType::kFloat32, stream);
      world.broadcast(x, 0, stream).wait();
    });
  });
  CAPTURE(error);
  CHECK(contains(error, "16 bytes"));
  CHECK(contains(error, "12"));
}

TEST_CASE("The first failure of a rank ends the others' waits at once") {
  const auto start = std::chrono::steady_clock::now();
  std::string message;
  try {
    run_ranks(4, [](Communicator& world, Stream&) {
      if (world.rank() == 3) {
        throw ConfigError("rank 3 has had enough");
      }
      world.barrier();
    });
  } catch (const ConfigError& error) {
    message = error.message();
  }
  CHECK(message == "rank 3 has had enough");
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("A sent tensor is kept alive until it is received, and a Work may be kept for later") {
  run_ranks(2, [](Communicator& world, Stream& stream) {
    if (world.rank() == 0) {
      parallel::Work sent;
      {
        Tensor x = Tensor::empty(Shape{1000}, DType::kFloat32, stream);
        std::fill_n(x.mutable_data<float>(), 1000, 3.0F);
        sent = world.send(x, 1, stream);
      }
      Tensor other = Tensor::zeros(Shape{1000}, DType::kFloat32, stream);
      world.barrier();
      sent.wait();
    } else {
      world.barrier();
      Tensor x = Tensor::empty(Shape{1000}, DType::kFloat32, stream);
      world.recv(x, 0, stream).wait();
      FATHOM_CHECK(x.data<float>()[999] == 3.0F, x.data<float>()[999]);
    }
  });
}

TEST_CASE("A steady exchange takes no memory from the system") {
  run_ranks(2, [](Communicator& world, Stream& stream) {
    Tensor full = Tensor::zeros(Shape{100000}, DType::kFloat32, stream);
    Tensor shard = Tensor::zeros(Shape{50000}, DType::kFloat32, stream);
    std::int64_t reserved = 0;
    for (int step = 0; step < 5; ++step) {
      world.reduce_scatter(full, shard, stream).wait();
      world.all_reduce(full, parallel::ReduceOp::kSum, stream).wait();
      if (step == 0) {
        reserved = stream.allocator()->bytes_reserved();
      }
    }
    FATHOM_CHECK(stream.allocator()->bytes_reserved() == reserved, reserved);
  });
}

TEST_CASE("Many ranks gather integers in rounds: everybody has everybody's, in order") {
  for (const int num_ranks : {33, 40, 64}) {
    std::vector<std::vector<std::int64_t>> found(static_cast<std::size_t>(num_ranks));
    test::run_ranks(num_ranks, [&](Communicator& world, Stream&) {
      world.barrier();
      const std::vector<std::int64_t> mine{100 * world.rank(), 100 * world.rank() + 1};
      std::vector<std::int64_t>& all = found[static_cast<std::size_t>(world.rank())];
      all.resize(2 * static_cast<std::size_t>(num_ranks));
      world.all_gather_integers(mine, all);
      world.all_gather_integers({}, {});
    });
    std::vector<std::int64_t> want;
    for (std::int64_t rank = 0; rank < num_ranks; ++rank) {
      want.insert(want.end(), {100 * rank, 100 * rank + 1});
    }
    for (const auto& all : found) {
      CHECK(all == want);
    }
  }
}

TEST_CASE("Misuse is refused with the numbers involved") {
  auto world = parallel::make_thread_world(2);
  Stream stream;
  Tensor x = Tensor::zeros(Shape{3}, DType::kFloat32, stream);
  Tensor counts_of_tokens = Tensor::zeros(Shape{3}, DType::kInt32, stream);
  CHECK_THROWS_AS((void)world[0]->all_gather(x, x, stream), InternalError);
  CHECK_THROWS_AS((void)world[0]->reduce_scatter(x, x, stream), InternalError);
  CHECK_THROWS_AS((void)world[0]->all_reduce(counts_of_tokens, parallel::ReduceOp::kSum, stream),
                  InternalError);
  CHECK_THROWS_AS((void)world[0]->send(x, 0, stream), InternalError);
  CHECK_THROWS_AS((void)world[0]->broadcast(x, 2, stream), InternalError);
  const std::vector<std::int64_t> counts{1, 1};
  CHECK_THROWS_AS((void)world[0]->all_to_all(x, counts, x, counts, stream), InternalError);
  const std::vector<int> without_me{1}, twice{0, 0};
  CHECK_THROWS_AS((void)world[0]->group(without_me, "data"), InternalError);
  CHECK_THROWS_AS((void)world[0]->group(twice, "data"), InternalError);
}
