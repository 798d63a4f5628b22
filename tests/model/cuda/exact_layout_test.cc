// EXACT on a CUDA device: ranks that share it have the bits of one rank, by ==.
#include <cmath>

#include "tests/support/broken_communicator.h"
#include "tests/support/catch.h"
#include "tests/support/small_training.h"

namespace fathom::testing {
namespace {

constexpr Device kCuda{DeviceType::kCuda, 0};

// What tensor parallelism cuts is made of multiples of 8, as the rule of configs/ asks.
model::ModelOptions options_of(DType activations) {
  model::ModelOptions options = small_options();
  options.num_layers = 2;
  options.intermediate_size = 64;
  options.qk_nope_head_dim = 16;
  options.v_head_dim = 16;
  options.q_lora_rank = 24;
  options.moe.intermediate_size = 32;
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

void check_layouts(const model::ModelOptions& options, const std::vector<Layout>& table) {
  const SmallTraining training = on_cuda(3);
  const Training reference = train(options, {}, training);
  REQUIRE(std::isfinite(reference.steps.back().loss));
  REQUIRE(reference.steps.back().is_finite);
  for (const Layout& layout : table) {
    INFO(to_string(layout));
    CHECK(difference(reference, train(options, layout, training)) == "");
  }
}

}  // namespace

TEST_CASE("EXACT on CUDA: every layout has the bits of one rank") {
  const DType dtype = GENERATE(DType::kBFloat16, DType::kFloat32);
  INFO(dtype);
  check_layouts(options_of(dtype), {
                                       {{1, 1, 1, 1}, {}, 8, {}},
                                       {{1, 1, 1, 1}, {}, 2, {true, true, true, false}},
                                       {{1, 1, 1, 1}, {}, 4, {false, false, false, true}},
                                       {{1, 2, 1, 1}, {}, 1, {}},
                                       {{1, 1, 2, 1}, {}, 2, {}},
                                       {{1, 1, 4, 1}, {}, 1, {}},
                                       {{2, 1, 1, 1}, {}, 2, {}},
                                       {{1, 2, 1, 2}, {}, 2, {}},
                                       {{2, 2, 2, 4}, {}, 1, {}},
                                   });
}

TEST_CASE("EXACT on CUDA: every layout has the bits of one rank, with V2's router") {
  model::ModelOptions options = options_of(DType::kBFloat16);
  options.q_lora_rank = 0;
  options.mtp_depth = 0;
  options.moe.score = kernels::ScoreFunction::kSoftmax;
  options.moe.group_score = kernels::GroupScore::kMax;
  options.moe.normalize_gates = false;
  options.moe.has_selection_bias = false;
  options.moe.sequence_balance_coefficient = 0.0F;
  options.moe.expert_balance_coefficient = 0.003F;
  options.moe.device_balance_coefficient = 0.05F;
  options.moe.communication_balance_coefficient = 0.02F;
  options.moe.num_device_groups = 4;
  options.moe.max_device_groups_per_token = 2;
  check_layouts(options, {{{1, 1, 1, 1}, {}, 4, {}}, {{1, 2, 2, 4}, {}, 1, {}}});
}

TEST_CASE("EXACT on CUDA: the chunks of the head do not show") {
  model::ModelOptions options = options_of(DType::kBFloat16);
  const SmallTraining training = on_cuda(2);
  const Training whole = train(options, {}, training);
  options.head_chunk_tokens = 4;
  CHECK(difference(whole, train(options, {}, training)) == "");
}

TEST_CASE("EXACT on CUDA: the check of layouts can fail") {
  const model::ModelOptions options = options_of(DType::kBFloat16);
  const Training reference = train(options, {}, on_cuda(3));
  SmallTraining broken = on_cuda(3);
  broken.wrap = [](parallel::Communicator& world) {
    return break_communicator(world, Fault::kReversedSums);
  };
  CHECK(difference(reference, train(options, {{1, 1, 4, 1}, {}, 1, {}}, broken)) != "");
  // What FAST computes is another sum.
  model::ModelOptions fast = options;
  fast.numerics = {};
  fast.numerics.activation_dtype = DType::kBFloat16;
  CHECK(difference(reference, train(fast, {}, on_cuda(3))) != "");
}

TEST_CASE("EXACT on CUDA follows the CPU's EXACT") {
  model::ModelOptions options = options_of(DType::kFloat32);
  SmallTraining training = on_cuda(3);
  const Training cuda = train(options, {}, training);
  training.device = {};
  const Training cpu = train(options, {}, training);
  for (std::size_t step = 0; step < cpu.steps.size(); ++step) {
    INFO("step " << step);
    CHECK(cuda.steps[step].loss == Approx(cpu.steps[step].loss).epsilon(2e-5));
    CHECK(cuda.steps[step].grad_norm == Approx(cpu.steps[step].grad_norm).epsilon(1e-4));
  }
}

}  // namespace fathom::testing
