#include "tests/rl/rollout_gap.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "core/rng.h"
#include "rl/policy_batch.h"
#include "rl/policy_objective.h"
#include "tests/rl/tiny_policy.h"
#include "tests/support/run_ranks.h"
#include "trainer/device_batch.h"

namespace fathom::rl {
namespace {

constexpr std::int64_t kLength = 160;  // of rows and positions: up to three pages
constexpr int kGroups = 4;
constexpr int kGroupSize = 4;
constexpr float kTemperature = 0.9F;

model::ModelOptions gap_options() {
  model::ModelOptions options = policy_options();
  options.max_position = kLength;
  options.numerics.gradients.tokens_per_step = kGroups * kGroupSize * kLength;
  return options;
}

std::int64_t between(const RandomSource& random, std::uint64_t index, std::int64_t least,
                     std::int64_t most) {
  return least + static_cast<std::int64_t>(
                     random.below(index, static_cast<std::uint64_t>(most - least + 1)));
}

std::vector<trainer::Prompt> make_prompts(std::int64_t step) {
  std::vector<trainer::Prompt> prompts;
  const RandomSource random(8, concat("prompts ", step));
  for (int group = 0; group < kGroups; ++group) {
    trainer::Prompt prompt{.id = std::to_string(group), .tokens = {}};
    const auto first = static_cast<std::uint64_t>(group) * 1000;
    const std::int64_t size = between(random, first, 40, 110);
    for (std::int64_t i = 0; i < size; ++i) {
      // Groups 0 and 1 begin alike too.
      const std::uint64_t at = (group < 2 && i < 64 ? 5000 : first) + static_cast<std::uint64_t>(i);
      prompt.tokens.push_back(static_cast<std::int32_t>(between(random, at + 1, 0, 255)));
    }
    for (; prompt.sample < kGroupSize; ++prompt.sample) {
      prompts.push_back(prompt);
    }
  }
  return prompts;
}

std::vector<trainer::Completion> sample(TinyPolicy& policy, std::int64_t step,
                                        const std::vector<trainer::Prompt>& prompts) {
  const RandomSource random(8, concat("sampling ", step));
  trainer::GenerationOptions options;
  options.sampling.temperature = kTemperature;
  options.purpose = concat("rollout/", step);
  options.max_new_tokens = 50;
  options.end_tokens = {17};
  options.max_sequences = between(random, 0, 4, 16);
  options.max_step_tokens = between(random, 1, 5, 60);
  options.cache_tokens = 64 * between(random, 2, 4, 6);
  return policy.generator().generate(prompts, options);
}

PolicyReport train(TinyPolicy& policy, const testing::Layout& layout, std::int64_t step,
                   const std::vector<trainer::Prompt>& prompts,
                   const std::vector<trainer::Completion>& completions, Stream& stream) {
  const RandomSource random(8, concat("training ", step));
  std::vector<std::size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = order.size() - 1; i > 0; --i) {
    std::swap(order[i], order[random.below(i, i + 1)]);
  }
  std::vector<PolicySequence> sequences;
  std::vector<PolicyObjective::Sequence> known;
  for (const std::size_t i : order) {
    sequences.push_back({prompts[i].tokens, completions[i].tokens});
    known.push_back({.old = completions[i].logprobs,
                     .advantage = random.uniform(100 + i) - 0.5,
                     .weight = 1e-2});
  }
  const PolicyBatch batch =
      pack_policy_batch(sequences, {.sequence_length = kLength,
                                    .micro_batch_size = layout.micro_batch_size,
                                    .num_data_ranks = layout.mesh.data,
                                    .data_rank = policy.mesh().coordinates().data,
                                    .micro_batch_multiple = layout.mesh.pipeline,
                                    .vocab_size = gap_options().vocab_size});
  trainer::DeviceBatch device = trainer::make_device_batch(
      batch.micro_batches, {0, batch.num_rows, 0.0}, policy.mesh(), stream);
  for (model::MicroBatch& micro_batch : device.micro_batches) {
    micro_batch.balance_scale = 0.0;  // pretraining's; and rows that fill up would take part
  }
  PolicyObjective objective({}, batch, std::move(known));
  trainer::StepOptions options;
  options.learning_rate = 1e-3;
  options.recompute = {.norms = true, .swiglu = true, .mla_up_projections = true, .layers = true};
  options.logit_scale = 1.0F / kTemperature;
  options.token_loss = &objective;
  policy.train_step().run(device.micro_batches, device.counts, options, {});
  return objective.report(policy.mesh().tensor().rank() == 0, policy.mesh().world());
}

}  // namespace

RolloutGap measure_rollout_gap(const testing::Layout& layout, std::int64_t num_steps) {
  RolloutGap gap;
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream& stream) {
    TinyPolicy policy(gap_options(), layout, world, stream);
    policy.initialize(3);
    for (std::int64_t step = 1; step <= num_steps; ++step) {
      const auto prompts = make_prompts(step);
      const auto completions = sample(policy, step, prompts);
      const PolicyReport report = train(policy, layout, step, prompts, completions, stream);
      if (world.rank() == 0) {
        gap.largest = std::max(gap.largest, report.largest_gap);
        gap.num_different += report.num_different;
        gap.num_tokens += report.statistics.num_tokens;
      }
    }
  });
  return gap;
}

std::vector<testing::Layout> rollout_gap_layouts() {
  std::vector<testing::Layout> layouts;
  const auto add = [&](const parallel::MeshShape& mesh, int micro_batch_size,
                       int stages_per_rank = 1) {
    testing::Layout& layout = layouts.emplace_back();
    layout.mesh = mesh;
    layout.micro_batch_size = micro_batch_size;
    layout.pipeline.stages_per_rank = stages_per_rank;
  };
  add({1, 1, 1, 1}, 3);
  add({1, 2, 1, 1}, 1);
  add({1, 1, 2, 1}, 2);
  add({2, 1, 1, 1}, 1);
  add({1, 2, 1, 2}, 2);
  add({2, 1, 1, 1}, 1, 2);
  add({2, 2, 2, 4}, 1);
  return layouts;
}

}  // namespace fathom::rl
