#include "optim/grad_clip.h"

#include <limits>
#include <vector>

#include "core/host_copy.h"
#include "kernels/exact_sums.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;

namespace {

// Of all ranks: the sum of squares, and how many elements are not finite.
struct Found {
  double squares = 0.0;
  std::int64_t num_non_finite = 0;
};

Found add_up(parallel::ParameterBuffer& buffer, parallel::Communicator& world, Stream& stream) {
  constexpr std::int64_t kWidth = kernels::kExactSumIntegers;
  Tensor numbers = Tensor::zeros(Shape{kWidth + 2}, DType::kInt64, stream);
  Tensor squares = numbers.narrow(0, kWidth);
  Tensor non_finite = numbers.narrow(kWidth, kWidth + 1);
  Tensor num_refused = numbers.narrow(kWidth + 1, kWidth + 2);
  optim::add_gradient_squares(buffer, squares, non_finite, num_refused, stream);
  world.all_reduce(numbers, parallel::ReduceOp::kSum, stream).wait();
  return {kernels::exact_sum_values(to_host<std::int64_t>(squares, stream))[0],
          to_host<std::int64_t>(non_finite, stream)[0]};
}

}  // namespace

TEST_CASE("The sum of squares counts every element of the model once, whatever the replicas") {
  const int ranks = GENERATE(1, 2, 4);
  std::vector<Found> found(static_cast<std::size_t>(ranks));
  test::run_ranks(ranks, [&](parallel::Communicator& world, Stream& stream) {
    parallel::Parameter parameter = parallel::whole_parameter("weight", Shape{5, 3}, world);
    parallel::ParameterBuffer buffer({&parameter}, {}, stream);
    auto grads = parameter.grad.sum.mutable_values<float>();
    for (std::size_t i = 0; i < grads.size(); ++i) {
      grads[i] = static_cast<float>(i) / static_cast<float>(world.world_size());
    }
    buffer.reduce_gradients(stream);
    found[static_cast<std::size_t>(world.rank())] = add_up(buffer, world, stream);
  });
  for (const Found& one : found) {
    CHECK(one.squares == 1015.0);  // 0^2 + ... + 14^2
    CHECK(one.num_non_finite == 0);
  }
}

TEST_CASE("One rank's non-finite gradient is seen by all") {
  std::vector<std::int64_t> counts(2);
  test::run_ranks(2, [&](parallel::Communicator& world, Stream& stream) {
    parallel::Parameter parameter = parallel::whole_parameter("weight", Shape{64}, world);
    parallel::ParameterBuffer buffer({&parameter}, {}, stream);
    if (world.rank() == 1) {
      parameter.grad.sum.mutable_values<float>()[3] = std::numeric_limits<float>::infinity();
      parameter.grad.sum.mutable_values<float>()[40] = std::numeric_limits<float>::quiet_NaN();
    }
    buffer.reduce_gradients(stream);
    counts[static_cast<std::size_t>(world.rank())] = add_up(buffer, world, stream).num_non_finite;
  });
  CHECK(counts == std::vector<std::int64_t>{2, 2});
}
