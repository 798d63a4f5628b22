#include "rl/policy_update.h"

#include <cmath>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "core/rng.h"
#include "tests/rl/tiny_policy.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"

namespace fathom::rl {
namespace {

constexpr float kTemperature = 0.8F;

PolicyUpdateOptions update_options() {
  PolicyUpdateOptions options;
  options.batch_size = 6;
  options.sequence_length = 24;
  options.micro_batch_size = 1;
  options.temperature = kTemperature;
  return options;
}

trainer::StepOptions step_options() {
  trainer::StepOptions options;
  options.learning_rate = 3e-3;
  options.selection_bias_rate = 1e-3;  // which updates of a policy leave alone
  options.recompute = {.norms = true, .layers = true};
  return options;
}

// Four prompts with three completions each, of several lengths; advantages that are given.
Rollout sample(TinyPolicy& policy, std::int64_t step) {
  Rollout rollout;
  std::vector<trainer::Prompt> prompts;
  for (int group = 0; group < 4; ++group) {
    const RandomSource random(5, concat("prompt ", step, '/', group));
    std::vector<std::int32_t> tokens;
    for (int i = 0; i <= 2 * group; ++i) {
      tokens.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(i), 264)));
    }
    RolloutGroup& added = rollout.groups.emplace_back();
    added.prompt = tokens;
    added.is_kept = true;
    for (int i = 0; i < 3; ++i) {
      prompts.push_back({.id = std::to_string(group), .sample = i, .tokens = tokens});
    }
  }
  trainer::GenerationOptions options;
  options.sampling.temperature = kTemperature;
  options.purpose = concat("rollout/", step);
  options.max_new_tokens = 14;
  options.is_stop = [](std::span<const std::int32_t> tokens) { return tokens.back() % 9 == 0; };
  const auto completions = policy.generator().generate(prompts, options);
  for (std::size_t i = 0; i < completions.size(); ++i) {
    RolloutSample& sample = rollout.groups[i / 3].samples.emplace_back();
    sample.completion = completions[i];
    sample.score.total = 1.0;
    sample.advantage = std::array{1.25, -1.0, -0.25}[i % 3];
  }
  return rollout;
}

struct Outcome {
  std::vector<PolicyUpdateResult> results;
  testing::Tensors state;
};

struct Setting {
  testing::Layout layout = {};
  PolicyUpdateOptions options = update_options();
  // Done to the rollout of each step before it is learnt from.
  std::function<void(Rollout&)> change = [](Rollout&) {};
  int num_steps = 1;
};

// Rollouts and updates on the weights of seed 3, with a reference where the loss asks for one.
Outcome run(const Setting& setting) {
  Outcome outcome;
  std::mutex mutex;
  const testing::Layout& layout = setting.layout;
  test::run_ranks(layout.mesh.world_size(), [&](parallel::Communicator& world, Stream&) {
    Stream stream({}, layout.threads);
    TinyPolicy policy(policy_options(), layout, world, stream);
    policy.initialize(3);
    std::optional<ReferencePolicy> reference;
    if (setting.options.loss.kl_weight > 0) {
      reference.emplace(policy.model().parameters(), stream);
      reference->refresh();
    }
    PolicyUpdater updater(policy.train_step(), policy.model(), policy.mesh(), stream,
                          reference ? &*reference : nullptr);
    for (std::int64_t step = 1; step <= setting.num_steps; ++step) {
      Rollout rollout = sample(policy, step);
      setting.change(rollout);
      PolicyUpdateOptions options = setting.options;
      options.micro_batch_size = layout.micro_batch_size;
      const auto result = updater.update(rollout, options, step_options(), [](const char*) {});
      if (world.rank() == 0) {
        outcome.results.push_back(result);
      }
    }
    const std::lock_guard lock(mutex);
    policy.store(outcome.state);
  });
  return outcome;
}

testing::Tensors untouched() { return run({.num_steps = 0}).state; }

testing::Layout layout_of(const parallel::MeshShape& mesh, int micro_batch_size = 1,
                          int stages_per_rank = 1) {
  testing::Layout layout;
  layout.mesh = mesh;
  layout.micro_batch_size = micro_batch_size;
  layout.pipeline.stages_per_rank = stages_per_rank;
  return layout;
}

void check_same(const Outcome& found, const Outcome& want) {
  REQUIRE(found.results.size() == want.results.size());
  for (std::size_t i = 0; i < want.results.size(); ++i) {
    const PolicyUpdateResult& a = found.results[i];
    const PolicyUpdateResult& b = want.results[i];
    CHECK(a.step.loss == b.step.loss);
    CHECK(a.step.grad_norm == b.step.grad_norm);
    CHECK(a.num_updates == b.num_updates);
    CHECK(a.num_tokens == b.num_tokens);
    CHECK(a.statistics.kl_sum == b.statistics.kl_sum);
    CHECK(a.statistics.old_kl_sum == b.statistics.old_kl_sum);
    CHECK(a.statistics.ratio_min == b.statistics.ratio_min);
    CHECK(a.statistics.ratio_max == b.statistics.ratio_max);
    CHECK(a.statistics.num_clipped_tokens == b.statistics.num_clipped_tokens);
  }
  CHECK(found.state == want.state);
}

}  // namespace

TEST_CASE("Sampling and updating give the same bits on every layout") {
  Setting setting{.num_steps = 2};
  setting.options.loss = {.kl_weight = 0.1};
  const Outcome want = run(setting);
  REQUIRE(want.results.size() == 2);
  for (const PolicyUpdateResult& result : want.results) {
    CHECK(result.num_updates == 2);
    CHECK(result.first_ratio_min == 1.0);
    CHECK(result.first_ratio_max == 1.0);
    CHECK(result.largest_gap == 0.0);
    CHECK(result.statistics.ratio_max > 1.0);  // of the second mini-batch
    CHECK(result.step.is_finite);
  }
  CHECK(want.results[0].statistics.kl_sum > 0.0);  // of the second update
  CHECK(want.state != untouched());
  for (const testing::Layout& layout :
       {layout_of({1, 1, 1, 1}, 4), layout_of({1, 2, 1, 1}), layout_of({1, 1, 2, 1}, 2),
        layout_of({2, 1, 1, 1}), layout_of({1, 2, 1, 2}, 2), layout_of({2, 1, 1, 1}, 1, 2),
        layout_of({1, 4, 1, 4}), layout_of({2, 2, 2, 4})}) {
    INFO(testing::to_string(layout));
    setting.layout = layout;
    check_same(run(setting), want);
  }
}

TEST_CASE("Replayed experts are those of the policy that sampled, on every layout") {
  Setting setting{.num_steps = 2};
  setting.options.replays_routing = true;
  const Outcome want = run(setting);
  CHECK(want.results[0].largest_gap == 0.0);         // of the second mini-batch too
  CHECK(want.state != run({.num_steps = 2}).state);  // some tokens would have moved
  for (const testing::Layout& layout :
       {layout_of({1, 1, 1, 1}, 3), layout_of({2, 1, 2, 2}), layout_of({1, 2, 1, 1}, 2)}) {
    INFO(testing::to_string(layout));
    setting.layout = layout;
    check_same(run(setting), want);
  }
  setting.options.samples_are_exact = false;
  check_same(run(setting), want);
}

TEST_CASE("A sampled log-probability with one other bit is found, on every rank") {
  for (const testing::Layout& layout : {layout_of({1, 1, 1, 1}), layout_of({1, 2, 1, 1})}) {
    Setting setting{.layout = layout};
    setting.change = [](Rollout& rollout) {
      float& logprob = rollout.groups[1].samples[2].completion.logprobs.back();
      logprob = std::nextafter(logprob, -100.0F);
    };
    CHECK_THROWS_WITH(run(setting), Catch::Contains("log-probabilities of 1 tokens"));
  }
}

TEST_CASE("Where nothing is to be learnt, no bit of the state changes") {
  Setting setting;
  setting.change = [](Rollout& rollout) {
    for (RolloutGroup& group : rollout.groups) {
      for (RolloutSample& sample : group.samples) {
        sample.advantage = 0;
      }
    }
  };
  const Outcome outcome = run(setting);
  CHECK(outcome.results[0].num_updates == 0);
  CHECK(outcome.results[0].num_tokens == 0);
  CHECK(outcome.results[0].step.is_finite);
  CHECK(outcome.results[0].step.loss == 0.0);
  CHECK(outcome.state == untouched());  // weight decay did not move it either
  // The divergence still teaches; groups that are left out do not.
  setting.options.loss.kl_weight = 0.1;
  CHECK(run(setting).results[0].num_updates == 2);
  setting.change = [](Rollout& rollout) {
    for (RolloutGroup& group : rollout.groups) {
      group.is_kept = false;
    }
  };
  CHECK(run(setting).state == untouched());
}

TEST_CASE("Samples without a gradient count in the denominators") {
  // One mini-batch of all; grad_norm scales with 1 / number of samples.
  Setting setting;
  setting.options.batch_size = 12;
  const auto keep_one = [](Rollout& rollout) {
    for (std::size_t i = 0; i < 4; ++i) {
      for (RolloutSample& sample : rollout.groups[i].samples) {
        sample.advantage = i == 0 ? sample.advantage : 0.0;
      }
    }
  };
  setting.change = keep_one;
  const double with_all = run(setting).results[0].step.grad_norm;
  setting.change = [&](Rollout& rollout) {
    keep_one(rollout);
    rollout.groups[2].is_kept = false;
    rollout.groups[3].is_kept = false;
  };
  // A mini-batch that is half full has half the say: each sample counts as in a full one.
  for (const LossNormalization normalization :
       {LossNormalization::kPerSample, LossNormalization::kConstant}) {
    setting.options.loss = {.normalization = normalization, .constant_tokens = 14};
    const double of_half = run(setting).results[0].step.grad_norm;
    setting.change = keep_one;
    CHECK(of_half == Approx(run(setting).results[0].step.grad_norm).epsilon(1e-5));
    setting.change = [&](Rollout& rollout) {
      keep_one(rollout);
      rollout.groups[2].is_kept = false;
      rollout.groups[3].is_kept = false;
    };
  }
  setting.options.loss = {};
  // Without a verdict, or masked for being cut off, they do not count.
  setting.change = [&](Rollout& rollout) {
    keep_one(rollout);
    for (std::size_t i = 2; i < 4; ++i) {
      for (RolloutSample& sample : rollout.groups[i].samples) {
        sample.score.total = std::nullopt;
      }
    }
  };
  CHECK(run(setting).results[0].step.grad_norm == Approx(2 * with_all).epsilon(1e-5));
  setting.options.loss.masks_truncated = true;
  setting.change = [&](Rollout& rollout) {
    keep_one(rollout);
    for (std::size_t i = 0; i < 4; ++i) {
      for (RolloutSample& sample : rollout.groups[i].samples) {
        sample.completion.finish =
            i < 2 ? trainer::FinishReason::kStop : trainer::FinishReason::kLength;
      }
    }
  };
  CHECK(run(setting).results[0].step.grad_norm == Approx(2 * with_all).epsilon(1e-5));
}

TEST_CASE("A sample is learnt when it is kept, has a verdict, and an advantage or a divergence") {
  RolloutGroup group;
  group.is_kept = true;
  RolloutSample sample;
  sample.completion.tokens = {1};
  sample.completion.finish = trainer::FinishReason::kLength;
  sample.score.total = 1.0;
  sample.advantage = -1.0;
  CHECK(is_learnt(group, sample, {}));
  CHECK_FALSE(is_learnt(group, sample, {.masks_truncated = true}));
  sample.advantage = 0.0;
  CHECK_FALSE(is_learnt(group, sample, {}));
  CHECK(is_learnt(group, sample, {.kl_weight = 0.1}));
  group.is_kept = false;
  CHECK_FALSE(is_learnt(group, sample, {.kl_weight = 0.1}));
  group.is_kept = true;
  sample.score.total = std::nullopt;
  CHECK_FALSE(is_learnt(group, sample, {.kl_weight = 0.1}));
  sample.score.total = 1.0;
  sample.completion.tokens.clear();
  CHECK_FALSE(is_learnt(group, sample, {.kl_weight = 0.1}));
}

TEST_CASE("Where samples are not exact the trainer's own log-probabilities are the old policy's") {
  Setting setting;
  setting.options.samples_are_exact = false;
  CHECK(run(setting).state == run({}).state);  // here they happen to be
  setting.change = [](Rollout& rollout) {
    rollout.groups[3].samples[0].completion.logprobs.back() -= 0.25F;
    rollout.groups[0].samples[1].completion.logprobs.back() += 0.125F;
  };
  for (const testing::Layout& layout : {layout_of({1, 1, 1, 1}), layout_of({2, 2, 1, 1})}) {
    setting.layout = layout;
    const Outcome outcome = run(setting);
    CHECK(outcome.results[0].largest_gap == Approx(0.25).epsilon(1e-5));
    CHECK(outcome.results[0].first_ratio_min == 1.0);
    CHECK(outcome.results[0].first_ratio_max == 1.0);
    CHECK(outcome.state == run({}).state);
    CHECK(outcome.results[0].statistics.num_masked_sequences == 0);
  }
  // The weights have not moved; the sampler is away from the trainer, which the mask looks at.
  setting.change = [](Rollout& rollout) {
    for (float& logprob : rollout.groups[1].samples[1].completion.logprobs) {
      logprob += 0.5F;
    }
  };
  setting.options.loss.off_policy_threshold = 0.25;
  CHECK(run(setting).results[0].statistics.num_masked_sequences == 1);
}

}  // namespace fathom::rl
