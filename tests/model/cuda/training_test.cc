// Training on a CUDA device against training on the CPU, and every parallel mode on one device
// against one rank.
#include <algorithm>
#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/small_training.h"

namespace fathom::testing {
namespace {

constexpr int kNumSteps = 20;
constexpr Device kCuda{DeviceType::kCuda, 0};

SmallTraining on(Device device, int num_steps) {
  SmallTraining training;
  training.num_steps = num_steps;
  training.device = device;
  return training;
}

model::ModelOptions with_activations(DType dtype) {
  model::ModelOptions options = small_options();
  options.numerics.activation_dtype = dtype;
  return options;
}

double largest_loss_gap(const Training& a, const Training& b) {
  double largest = 0.0;
  for (std::size_t step = 0; step < a.steps.size(); ++step) {
    largest = std::max(largest, std::abs(a.steps[step].loss - b.steps[step].loss));
  }
  return largest;
}

}  // namespace

TEST_CASE("Training in float32 on CUDA follows the CPU") {
  Layout layout;
  layout.micro_batch_size = 4;
  const Training cpu = train(small_options(), layout, on({}, 5));
  const Training cuda = train(small_options(), layout, on(kCuda, 5));
  for (std::size_t step = 0; step < cpu.steps.size(); ++step) {
    INFO("step " << step);
    CHECK(cuda.steps[step].loss == Approx(cpu.steps[step].loss).epsilon(2e-5));
    CHECK(cuda.steps[step].mtp_losses[0] == Approx(cpu.steps[step].mtp_losses[0]).epsilon(2e-5));
    CHECK(cuda.steps[step].balance_loss == Approx(cpu.steps[step].balance_loss).epsilon(2e-5));
    CHECK(cuda.steps[step].grad_norm == Approx(cpu.steps[step].grad_norm).epsilon(1e-4));
  }
}

TEST_CASE("Training in bfloat16 on CUDA stays within 0.01 of the CPU's loss over 20 steps") {
  Layout layout;
  layout.micro_batch_size = 8;
  model::ModelOptions options = small_options();
  // With the 0.1 of these models a rounding moves the mean loss of so few tokens by more than that.
  options.initializer_range = 0.03F;
  SECTION("sigmoid router, queries through a latent") {}
  SECTION("softmax router, queries from the hidden state") {
    options.moe.score = kernels::ScoreFunction::kSoftmax;
    options.moe.group_score = kernels::GroupScore::kMax;
    options.moe.normalize_gates = false;
    options.moe.has_selection_bias = false;
    options.q_lora_rank = 0;
  }
  const Training cpu = train(options, layout, on({}, kNumSteps));
  options.numerics.activation_dtype = DType::kBFloat16;
  const Training cuda = train(options, layout, on(kCuda, kNumSteps));
  CHECK(largest_loss_gap(cuda, cpu) < 1e-2);
  CHECK(cpu.steps.back().loss < cpu.steps.front().loss);
}

TEST_CASE("The same layout on CUDA has the same bits again") {
  Layout layout;
  layout.micro_batch_size = 4;
  const model::ModelOptions options = with_activations(DType::kBFloat16);
  const Training once = train(options, layout, on(kCuda, 3));
  const Training again = train(options, layout, on(kCuda, 3));
  CHECK(once.weights == again.weights);
}

TEST_CASE("What is computed again on CUDA has the same bits") {
  Layout layout;
  layout.mesh = GENERATE(parallel::MeshShape{1, 1, 1, 1}, parallel::MeshShape{1, 2, 2, 4});
  layout.micro_batch_size = 4;
  model::ModelOptions options = with_activations(DType::kBFloat16);
  options.num_layers = 2;
  options.mtp_depth = 0;
  const Training kept = train(options, layout, on(kCuda, 2));
  layout.recompute.layers = GENERATE(true, false);
  layout.recompute.experts = !layout.recompute.layers;
  INFO(to_string(layout));
  CHECK(difference(kept, train(options, layout, on(kCuda, 2))) == "");
}

TEST_CASE("A step on CUDA sees nothing of what the memory of gradients held before it") {
  const Layout layout = GENERATE(Layout{{1, 1, 1, 1}, {}, 2, {}}, Layout{{2, 2, 1, 2}, {}, 2, {}});
  const model::ModelOptions options = with_activations(DType::kBFloat16);
  SmallTraining how = on(kCuda, 3);
  const Training clean = train(options, layout, how);
  how.has_stale_gradients = true;
  CHECK(train(options, layout, how).weights == clean.weights);
}

TEST_CASE("A step waits for the device once, at its end") {
  const Layout layout = GENERATE(Layout{{1, 1, 1, 1}, {}, 2, {}}, Layout{{1, 1, 1, 1}, {}, 4, {}},
                                 Layout{{1, 1, 1, 1}, {}, 4, {false, false, false, true}},
                                 Layout{{1, 1, 1, 1}, {}, 4, {false, false, false, false, true}});
  const Training training = train(with_activations(DType::kBFloat16), layout, on(kCuda, 2));
  CHECK(training.ranks[0].num_host_waits == 1);
}

TEST_CASE("One rank's gradient that is NaN stops the update on all ranks") {
  const Device device = GENERATE(Device{}, kCuda);
  const Layout layout{{1, 2, 1, 2}, {}, 4, {}};
  SmallTraining with_nan = on(device, 3);
  with_nan.nan_step = 2;
  const Training skipped = train(small_options(), layout, with_nan);
  const Training shorter = train(small_options(), layout, on(device, 2));
  CHECK_FALSE(skipped.steps[2].is_finite);
  CHECK(skipped.steps[1].is_finite);
  CHECK(skipped.weights == shorter.weights);
}

TEST_CASE("Every parallel mode on one CUDA device follows one rank on it") {
  Layout alone;
  alone.micro_batch_size = 2;
  static const Training kReference = train(small_options(), alone, on(kCuda, 3));
  const Layout layout =
      GENERATE(Layout{{1, 2, 1, 1}, {}, 2, {}}, Layout{{1, 1, 2, 1}, {}, 2, {}},
               Layout{{2, 1, 1, 1}, {}, 2, {}}, Layout{{1, 2, 1, 2}, {}, 2, {}},
               Layout{{2, 1, 1, 1}, {2, {}}, 2, {}}, Layout{{2, 2, 2, 2}, {}, 1, {}});
  INFO(to_string(layout));
  SmallTraining training = on(kCuda, 3);
  const Training found = train(small_options(), layout, training);
  for (std::size_t step = 0; step < kReference.steps.size(); ++step) {
    INFO("step " << step);
    CHECK(found.steps[step].loss == Approx(kReference.steps[step].loss).epsilon(1e-5));
    CHECK(found.steps[step].grad_norm == Approx(kReference.steps[step].grad_norm).epsilon(1e-4));
  }
}

}  // namespace fathom::testing
