// EXACT on a CUDA device: ranks that share it have the bits of one rank, by ==.
#include <cmath>

#include "tests/support/broken_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/small_training.h"

namespace fathom::testing {
namespace {

constexpr Device kCuda{DeviceType::kCuda, 0};

model::ModelOptions options_of(DType activations) {
  model::ModelOptions options = tensor_core_options();
  options.numerics.activation_dtype = activations;
  return exact(options);
}

SmallTraining on_cuda(int num_steps) {
  SmallTraining training;
  training.num_steps = num_steps;
  training.device = kCuda;
  training.epsilon = 1e-8;
  return training;
}

// Micro-batches are as large as the layouts allow: on the emulated device a product of few rows
// takes as long as one of many.
Layout alone() { return {{1, 1, 1, 1}, {}, kSmallSequences, {}}; }

void check_layouts(const model::ModelOptions& options, const std::vector<Layout>& table) {
  const SmallTraining training = on_cuda(2);
  const Training reference = train(options, alone(), training);
  REQUIRE(std::isfinite(reference.steps.back().loss));
  REQUIRE(reference.steps.back().is_finite);
  for (const Layout& layout : table) {
    INFO(to_string(layout));
    CHECK(difference(reference, train(options, layout, training)) == "");
  }
}

}  // namespace

TEST_CASE("EXACT on CUDA: micro-batches and recomputation do not show") {
  check_layouts(options_of(DType::kBFloat16),
                {
                    {{1, 1, 1, 1}, {}, 4, {true, true, true, false}},
                    {{1, 1, 1, 1}, {}, 2, {false, false, false, true}},
                    {{1, 1, 1, 1}, {}, 4, {false, false, false, false, true}},
                    {{1, 2, 1, 2}, {}, 4, {false, false, false, false, true}},
                });
}

TEST_CASE("EXACT on CUDA: each kind of parallelism has the bits of one rank") {
  check_layouts(options_of(DType::kBFloat16), {
                                                  {{1, 2, 1, 2}, {}, 4, {}},
                                                  {{1, 1, 2, 1}, {}, 8, {}},
                                                  {{2, 1, 1, 1}, {}, 4, {}},
                                              });
}

TEST_CASE("EXACT on CUDA: several kinds of parallelism have the bits of one rank") {
  check_layouts(options_of(DType::kBFloat16),
                {{{1, 1, 4, 1}, {}, 8, {}}, {{2, 2, 2, 4}, {}, 2, {}}});
}

TEST_CASE("EXACT on CUDA: layouts have the bits of one rank in float32") {
  check_layouts(options_of(DType::kFloat32), {{{1, 1, 1, 1}, {}, 4, {}},
                                              {{1, 2, 1, 1}, {}, 4, {}},
                                              {{1, 1, 4, 4}, {}, 8, {}},
                                              {{2, 2, 2, 2}, {}, 2, {}}});
}

TEST_CASE("EXACT on CUDA: layouts have the bits of one rank with V2's router") {
  model::ModelOptions options = with_v2_router(options_of(DType::kBFloat16));
  options.q_lora_rank = 0;
  options.mtp_depth = 0;
  check_layouts(options, {{{1, 2, 2, 4}, {}, 4, {false, false, false, true}}});
}

TEST_CASE("EXACT on CUDA: the chunks of the head do not show") {
  model::ModelOptions options = options_of(DType::kBFloat16);
  options.num_layers = 1;
  options.mtp_depth = 0;
  const Training whole = train(options, alone(), on_cuda(2));
  options.head_chunk_tokens = 32;
  CHECK(difference(whole, train(options, alone(), on_cuda(2))) == "");
}

TEST_CASE("EXACT on CUDA: the check of layouts can fail") {
  model::ModelOptions options = options_of(DType::kBFloat16);
  options.num_layers = 1;
  options.mtp_depth = 0;
  const Training reference = train(options, alone(), on_cuda(2));
  SmallTraining broken = on_cuda(2);
  broken.wrap = [](parallel::Communicator& world) {
    return break_communicator(world, Fault::kReversedSums);
  };
  CHECK(difference(reference, train(options, {{1, 1, 4, 1}, {}, 8, {}}, broken)) != "");
  // What FAST computes is another sum.
  model::ModelOptions fast = options;
  fast.numerics = {};
  fast.numerics.activation_dtype = DType::kBFloat16;
  CHECK(difference(reference, train(fast, alone(), on_cuda(2))) != "");
}

TEST_CASE("EXACT on CUDA follows the CPU's EXACT") {
  model::ModelOptions options = options_of(DType::kFloat32);
  SmallTraining training = on_cuda(3);
  const Training cuda = train(options, alone(), training);
  training.device = {};
  const Training cpu = train(options, alone(), training);
  for (std::size_t step = 0; step < cpu.steps.size(); ++step) {
    INFO("step " << step);
    CHECK(cuda.steps[step].loss == Approx(cpu.steps[step].loss).epsilon(2e-5));
    CHECK(cuda.steps[step].grad_norm == Approx(cpu.steps[step].grad_norm).epsilon(1e-4));
  }
}

}  // namespace fathom::testing
