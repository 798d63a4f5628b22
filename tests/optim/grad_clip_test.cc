#include "optim/grad_clip.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

using namespace fathom;

TEST_CASE("The gradient norm counts every element of the model once, whatever the replicas") {
  const int ranks = GENERATE(1, 2, 4);
  std::vector<optim::GradientNorm> norms(static_cast<std::size_t>(ranks));
  test::run_ranks(ranks, [&](parallel::Communicator& world, Stream& stream) {
    parallel::Parameter parameter = parallel::whole_parameter("weight", Shape{5, 3}, world);
    parallel::ParameterBuffer buffer({&parameter}, {}, stream);
    auto grads = parameter.grad.sum.mutable_values<float>();
    for (std::size_t i = 0; i < grads.size(); ++i) {
      grads[i] = static_cast<float>(i) / static_cast<float>(world.world_size());
    }
    buffer.reduce_gradients(stream);
    norms[static_cast<std::size_t>(world.rank())] = optim::gradient_norm(buffer, world, stream);
  });
  for (const optim::GradientNorm& norm : norms) {
    CHECK(norm.norm == Approx(std::sqrt(1015.0)));  // 0^2 + ... + 14^2
    CHECK(norm.num_non_finite == 0);
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
    counts[static_cast<std::size_t>(world.rank())] =
        optim::gradient_norm(buffer, world, stream).num_non_finite;
  });
  CHECK(counts == std::vector<std::int64_t>{2, 2});
}

TEST_CASE("Clipping scales to the largest norm and leaves smaller gradients alone") {
  CHECK(optim::clip_factor(4.0, 1.0) == 0.25);
  CHECK(optim::clip_factor(0.5, 1.0) == 1.0);
  CHECK(optim::clip_factor(4.0, 0.0) == 1.0);
}
