// The whole model against PyTorch: loss, every gradient, routing and bias updates of
// tests/fixtures/parity, on one rank and on layouts that use every axis.
#include <google/protobuf/util/json_util.h>

#include <cmath>
#include <mutex>
#include <string>

#include "model/factory.h"
#include "optim/adamw.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/run_ranks.h"
#include "tests/support/tiny_run.h"

using namespace fathom;
using namespace fathom::testing;

namespace {

config::Model model_config(const Fixture& fixture) {
  config::Model config;
  google::protobuf::util::JsonParseOptions parse;
  parse.ignore_unknown_fields = true;
  const auto status =
      google::protobuf::util::JsonStringToMessage(fixture.config().dump(), &config, parse);
  REQUIRE(status.ok());
  config.set_max_position(256);
  // The fixtures' communication loss: as many devices a token as kept groups.
  config.mutable_moe()->set_max_device_groups_per_token(config.moe().num_kept_groups());
  return config;
}

Tensors weights_of(const Fixture& fixture) {
  Tensors tensors;
  for (const auto& [key, array] : fixture.folder("weights")) {
    tensors[key] = array.values;
  }
  return tensors;
}

TinyBatch batch_of(const Fixture& fixture) {
  const auto& tokens = fixture.integers("tokens");
  TinyBatch batch;
  batch.num_sequences = tokens.shape[0];
  batch.sequence_length = tokens.shape[1];
  batch.tokens = tokens.values;
  batch.targets = fixture.integers("targets").values;
  batch.masks = fixture.floats("masks").values;
  return batch;
}

// Largest difference relative to the largest element.
double difference(const std::vector<float>& ours, const std::vector<float>& theirs) {
  REQUIRE(ours.size() == theirs.size());
  double largest = 0.0;
  double worst = 0.0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(theirs[i])));
    worst =
        std::max(worst, std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i])));
  }
  return worst / largest;
}

struct Outcome {
  trainer::StepResult result;
  Tensors gradients;
  Tensors biases;
};

Outcome run_fixture(const Fixture& fixture, const Layout& layout) {
  const config::Model config = model_config(fixture);
  const Tensors weights = weights_of(fixture);
  const TinyBatch batch = batch_of(fixture);
  Outcome outcome;
  std::mutex mutex;
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    TinyRun run(model::make_model_options(config), layout, world, stream);
    run.load(weights);
    Tensors gradients;
    StoreTensors store(gradients);
    CaptureGradients capture(run.model().parameters(), store);
    trainer::StepOptions options;
    options.selection_bias_rate = config.moe().selection_bias_update_rate();
    const trainer::StepResult result =
        run.step(batch, capture, options, fixture.number("mtp_loss_weight"));
    const std::lock_guard lock(mutex);
    StoreTensors biases(outcome.biases);
    run.model().visit_state(biases);
    outcome.result = result;
    for (const auto& [key, values] : gradients) {
      std::vector<float>& sum = outcome.gradients[key];
      sum.resize(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        sum[i] += values[i];  // each element is on one rank, zero on the others
      }
    }
  });
  return outcome;
}

void check_fixture(const std::string& name, const Layout& layout) {
  const Fixture fixture = parity_fixture(name);
  INFO(name << ", " << testing::to_string(layout));
  const Outcome outcome = run_fixture(fixture, layout);
  CHECK(outcome.result.loss == Approx(fixture.scalar("loss")).epsilon(1e-5));
  CHECK(outcome.result.balance_loss == Approx(fixture.scalar("balance_loss")).epsilon(1e-5));
  if (fixture.has("mtp_losses")) {
    const auto& expected = fixture.floats("mtp_losses").values;
    REQUIRE(outcome.result.mtp_losses.size() == expected.size());
    for (std::size_t k = 0; k < expected.size(); ++k) {
      CHECK(outcome.result.mtp_losses[k] == Approx(expected[k]).epsilon(1e-5));
    }
  }
  for (const auto& [key, array] : fixture.folder("gradients")) {
    INFO(key);
    REQUIRE(outcome.gradients.contains(key));
    CHECK(difference(outcome.gradients.at(key), array.values) < 1e-5);
  }
  CHECK(outcome.gradients.size() == fixture.folder("gradients").size());
  for (const auto& [key, array] : fixture.folder("bias_after")) {
    INFO(key);
    CHECK(difference(outcome.biases.at(key), array.values) < 1e-6);
  }
  // Largest load over mean, from the counts that the reference saw.
  const auto& counts = fixture.integers("expert_counts");
  const auto experts = static_cast<std::size_t>(counts.shape[1]);
  std::size_t row = 0;
  for (const auto& [layer, load] : outcome.result.expert_load) {
    INFO("layer " << layer);
    double total = 0.0;
    double largest = 0.0;
    for (std::size_t e = 0; e < experts; ++e) {
      total += counts.values[row * experts + e];
      largest = std::max(largest, static_cast<double>(counts.values[row * experts + e]));
    }
    CHECK(load == Approx(largest * static_cast<double>(experts) / total).epsilon(1e-5));
    ++row;
  }
  CHECK(row == static_cast<std::size_t>(counts.shape[0]));
}

}  // namespace

TEST_CASE("One rank agrees with PyTorch on losses, gradients, routing and bias updates") {
  const std::string name = GENERATE("v3_q_lora", "v3_no_q_lora", "v3_yarn", "v2_groups", "v2_lite",
                                    "v2_balance", "v3_mtp1", "v3_mtp2_balance");
  check_fixture(name, Layout{});
}

TEST_CASE("Both sequences in one micro-batch agree with PyTorch") {
  const std::string name = GENERATE("v3_q_lora", "v2_balance", "v3_mtp2_balance");
  Layout layout;
  layout.micro_batch_size = 2;
  check_fixture(name, layout);
}

TEST_CASE("Every kind of recomputation agrees with PyTorch") {
  Layout layout;
  const int kind = GENERATE(0, 1, 2, 3, 4, 5);
  layout.recompute.norms = kind == 0 || kind == 4;
  layout.recompute.swiglu = kind == 1 || kind == 4;
  layout.recompute.mla_up_projections = kind == 2 || kind == 4;
  layout.recompute.layers = kind == 3;
  layout.recompute.experts = kind == 5;
  check_fixture("v3_mtp2_balance", layout);
  check_fixture("v3_no_q_lora", layout);
}

TEST_CASE("Layouts over every axis agree with PyTorch") {
  const std::string name = GENERATE("v3_q_lora", "v3_no_q_lora", "v2_balance", "v3_mtp2_balance");
  const bool has_three_layers = name == "v3_q_lora";
  std::vector<Layout> layouts = {
      {{1, 2, 1, 1}, {}, 1, {}}, {{1, 1, 2, 1}, {}, 1, {}}, {{2, 1, 1, 1}, {}, 1, {}},
      {{1, 2, 1, 2}, {}, 1, {}}, {{1, 1, 2, 2}, {}, 2, {}}, {{1, 2, 2, 4}, {}, 1, {}},
      {{2, 2, 1, 2}, {}, 1, {}}, {{2, 2, 2, 2}, {}, 1, {}}, {{2, 2, 2, 4}, {}, 1, {}}};
  if (has_three_layers) {
    layouts.push_back({{2, 1, 1, 1}, {1, {1, 2}}, 1, {}});
    layouts.push_back({{3, 1, 2, 2}, {}, 1, {}});
    layouts.push_back({{2, 1, 1, 1}, {2, {1, 1, 1, 0}}, 1, {}});
  }
  for (const Layout& layout : layouts) {
    check_fixture(name, layout);
  }
}

TEST_CASE("Fifty AdamW steps follow PyTorch's losses and gradient norms") {
  const Fixture fixture = parity_fixture("loss_curve");
  const config::Model config = model_config(fixture);
  const Layout layout = GENERATE(Layout{}, Layout{{2, 2, 1, 2}, {}, 1, {}});
  const auto& tokens = fixture.integers("tokens");
  const auto& targets = fixture.integers("targets");
  const auto optimizer_config = fixture.json("optimizer");
  std::vector<trainer::StepResult> results(static_cast<std::size_t>(tokens.shape[0]));
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    TinyRun run(model::make_model_options(config), layout, world, stream);
    run.load(weights_of(fixture));
    optim::AdamW optimizer(
        run.model().parameters(),
        {optimizer_config["beta1"], optimizer_config["beta2"], optimizer_config["epsilon"],
         optimizer_config["weight_decay"], DType::kFloat32},
        stream);
    const auto steps = static_cast<std::size_t>(tokens.shape[0]);
    const auto per_step = static_cast<std::ptrdiff_t>(tokens.shape[1] * tokens.shape[2]);
    for (std::size_t step = 0; step < steps; ++step) {
      TinyBatch batch;
      batch.num_sequences = tokens.shape[1];
      batch.sequence_length = tokens.shape[2];
      const auto begin = static_cast<std::ptrdiff_t>(step) * per_step;
      batch.tokens.assign(tokens.values.begin() + begin, tokens.values.begin() + begin + per_step);
      batch.targets.assign(targets.values.begin() + begin,
                           targets.values.begin() + begin + per_step);
      batch.masks.assign(static_cast<std::size_t>(per_step), 1.0F);
      trainer::StepOptions options;
      options.learning_rate = static_cast<double>(fixture.floats("learning_rates").values[step]);
      options.clip_norm = optimizer_config["clip_norm"];
      options.selection_bias_rate = config.moe().selection_bias_update_rate();
      const trainer::StepResult result = run.step(batch, optimizer, options);
      if (world.rank() == 0) {
        results[step] = result;
      }
    }
  });
  for (std::size_t step = 0; step < results.size(); ++step) {
    INFO("step " << step);
    CHECK(std::abs(results[step].loss -
                   static_cast<double>(fixture.floats("losses").values[step])) < 1e-4);
    CHECK(results[step].grad_norm ==
          Approx(fixture.floats("grad_norms").values[step]).epsilon(1e-3));
  }
}
