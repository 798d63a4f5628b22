#include "rl/policy_objective.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/rng.h"
#include "tests/rl/tiny_policy.h"
#include "tests/support/catch.h"
#include "tests/support/run_ranks.h"
#include "trainer/device_batch.h"
#include "trainer/evaluate_step.h"

namespace fathom::rl {
namespace {

constexpr std::int64_t kLength = 16;
constexpr double kTemperature = 0.7;

struct Text {
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> completion;
  double advantage = 0;
};

std::vector<Text> make_texts() {
  const RandomSource random(4, "texts");
  std::uint64_t next = 0;
  const auto draw = [&](std::int64_t size) {
    std::vector<std::int32_t> tokens;
    for (std::int64_t i = 0; i < size; ++i) {
      tokens.push_back(static_cast<std::int32_t>(random.below(next++, 264)));
    }
    return tokens;
  };
  return {{draw(3), draw(5), 1.5},
          {draw(2), draw(9), -1.0},
          {draw(6), draw(2), -0.5},
          {draw(1), draw(16), 0.75},
          {draw(4), draw(4), 0.25}};
}

// Without experts, whose choice jumps: differences would not be derivatives.
model::ModelOptions dense_options() {
  model::ModelOptions options = policy_options();
  options.num_layers = 2;
  options.num_dense_layers = 2;
  options.moe = {};
  return options;
}

// A policy, the same policy at another time, and where the divergence is measured from.
struct Case {
  PolicyLossOptions options;
  std::vector<Text> texts = make_texts();
  BatchCounts counts;
  Logprobs old;
  Logprobs reference;

  double weight_of(std::size_t i) const {
    return token_weight(counts, std::ssize(texts[i].completion), options);
  }
};

// logprobs + up to `size` either way.
Logprobs move(const Logprobs& logprobs, double size, const std::string& purpose) {
  const RandomSource random(6, purpose);
  Logprobs moved = logprobs;
  std::uint64_t next = 0;
  for (std::vector<float>& of_sequence : moved) {
    for (float& logprob : of_sequence) {
      logprob += static_cast<float>(size * (2.0 * random.uniform(next++) - 1.0));
    }
  }
  return moved;
}

// The objective of the papers, from log-probabilities, in double. CISPO's coefficient does not take
// part in the derivative: `ratios_at` says which policy it is taken at.
double objective(const Case& c, const Logprobs& policy, const Logprobs& ratios_at) {
  const PolicyLossOptions& o = c.options;
  const auto clip = [&](double ratio) {
    return std::max(1.0 - o.clip_low, std::min(1.0 + o.clip_high, ratio));
  };
  double loss = 0;
  for (std::size_t i = 0; i < policy.size(); ++i) {
    const double advantage = c.texts[i].advantage;
    const std::size_t size = policy[i].size();
    double moved = 0;
    for (std::size_t t = 0; t < size; ++t) {
      moved += (double{policy[i][t]} - double{c.old[i][t]}) / static_cast<double>(size);
    }
    for (std::size_t t = 0; t < size; ++t) {
      const double logprob = policy[i][t];
      const double token_ratio = std::exp(logprob - double{c.old[i][t]});
      double gain = 0;
      if (o.surrogate == Surrogate::kWeighted) {
        gain = clip(std::exp(double{ratios_at[i][t]} - double{c.old[i][t]})) * advantage * logprob;
      } else {
        const double ratio = o.surrogate == Surrogate::kSequence ? std::exp(moved) : token_ratio;
        gain = std::min(ratio * advantage, clip(ratio) * advantage);
      }
      if (o.off_policy_threshold && advantage < 0 && -moved > *o.off_policy_threshold) {
        gain = 0;
      }
      double kl = 0;
      if (o.kl_weight > 0) {
        const double log_ratio = double{c.reference[i][t]} - logprob;
        kl = std::exp(log_ratio) - log_ratio - 1.0;
        kl *= o.kl_estimator == KlEstimator::kUnbiased ? token_ratio : 1.0;
      }
      loss += c.weight_of(i) * (o.kl_weight * kl - gain);
    }
  }
  return loss;
}

// One rank's model and one mini-batch on it.
class Bench {
 public:
  Bench(parallel::Communicator& world, Stream& stream)
      : policy_(dense_options(), {}, world, stream),
        evaluate_step_(policy_.model(), policy_.mesh(), stream),
        world_(&world) {
    policy_.initialize(3);
    testing::StoreTensors store(weights_);
    for (const parallel::ParameterGroup& group : policy_.model().parameters().groups()) {
      for (const parallel::ParameterRange& range : group.shard_ranges) {
        parallel::visit_range(range, group.value_shard, "", true, store);
      }
    }
    for (const Text& text : texts_) {
      sequences_.push_back({text.prompt, text.completion});
    }
    batch_ = pack_policy_batch(sequences_, {.sequence_length = kLength,
                                            .micro_batch_size = 2,
                                            .vocab_size = dense_options().vocab_size});
    device_ = trainer::make_device_batch(batch_.micro_batches, {0, batch_.num_rows, 0.0},
                                         policy_.mesh(), stream);
  }

  const testing::Tensors& weights() const { return weights_; }

  Logprobs logprobs(const testing::Tensors& weights) {
    policy_.run().load(weights);
    LogprobRecorder recorder(batch_, sequences_);
    trainer::EvaluateOptions options;
    options.logit_scale = 1.0F / static_cast<float>(kTemperature);
    options.token_loss = &recorder;
    evaluate_step_.run(device_.micro_batches, options);
    return recorder.take();
  }

  struct Gradient {
    testing::Tensors of;
    PolicyReport report;
  };
  Gradient gradient(const Case& c, Stream& stream) {
    policy_.run().load(weights_);
    std::vector<PolicyObjective::Sequence> sequences;
    for (std::size_t i = 0; i < c.texts.size(); ++i) {
      sequences.push_back(
          {.old = c.old[i],
           .reference = c.reference.empty() ? std::span<const float>() : c.reference[i],
           .sampled = {},
           .advantage = c.texts[i].advantage,
           .weight = c.weight_of(i)});
    }
    PolicyObjective objective(c.options, batch_, std::move(sequences));
    Gradient gradient;
    testing::StoreTensors store(gradient.of);
    testing::CaptureGradients capture(policy_.model().parameters(), store);
    trainer::TrainStep step(policy_.model(), capture, policy_.mesh(), stream);
    for (model::MicroBatch& micro_batch : device_.micro_batches) {
      micro_batch.balance_scale = 0.0;
    }
    trainer::StepOptions options;
    options.recompute = {.norms = true, .layers = true};
    options.logit_scale = 1.0F / static_cast<float>(kTemperature);
    options.token_loss = &objective;
    step.run(device_.micro_batches, device_.counts, options, {});
    gradient.report = objective.report(true, *world_);
    return gradient;
  }

 private:
  TinyPolicy policy_;
  trainer::EvaluateStep evaluate_step_;
  parallel::Communicator* world_;
  testing::Tensors weights_;
  std::vector<Text> texts_ = make_texts();
  std::vector<PolicySequence> sequences_;
  PolicyBatch batch_;
  trainer::DeviceBatch device_;
};

std::size_t largest(const std::vector<float>& values) {
  const auto found = std::max_element(values.begin(), values.end(),
                                      [](float a, float b) { return std::abs(a) < std::abs(b); });
  return static_cast<std::size_t>(found - values.begin());
}

// Cases with every surrogate, normalisation and estimator among them.
std::vector<Case> make_cases(const Logprobs& now) {
  std::vector<Case> cases;
  const auto add = [&](const PolicyLossOptions& options) {
    Case c;
    c.options = options;
    c.old = move(now, 0.4, "old");  // some ratios beyond the clip, on both sides
    if (options.kl_weight > 0) {
      c.reference = move(now, 0.6, "reference");
    }
    c.counts.num_sequences = std::ssize(c.texts) + 1;  // one that is not computed
    for (const Text& text : c.texts) {
      c.counts.num_tokens += std::ssize(text.completion);
    }
    cases.push_back(c);
  };
  add({});
  add({.normalization = LossNormalization::kPerToken, .clip_high = 0.28, .kl_weight = 0.3});
  add({.surrogate = Surrogate::kSequence,
       .clip_low = 0.02,
       .clip_high = 0.02,
       .kl_weight = 0.3,
       .kl_estimator = KlEstimator::kUnbiased});
  add({.surrogate = Surrogate::kSequence, .clip_low = 10, .clip_high = 10});
  add({.surrogate = Surrogate::kWeighted,
       .normalization = LossNormalization::kConstant,
       .constant_tokens = 20,
       .kl_weight = 0.1});
  add({.kl_weight = 0.2, .off_policy_threshold = 0.01});
  return cases;
}

}  // namespace

TEST_CASE("The gradient of the policy loss is that of the objective in double, through the model") {
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    Bench bench(world, stream);
    const Logprobs now = bench.logprobs(bench.weights());
    const std::vector<Case> cases = make_cases(now);
    for (std::size_t number = 0; number < cases.size(); ++number) {
      const Case& c = cases[number];
      const Bench::Gradient found = bench.gradient(c, stream);
      INFO("case " << number);
      CHECK(found.report.statistics.loss == Approx(objective(c, now, now)).epsilon(1e-12));
      CHECK(found.report.statistics.num_sequences == 5);
      CHECK(found.report.statistics.num_tokens == 36);
      for (const std::string key :
           {"lm_head.weight", "model.norm.weight", "model.embed_tokens.weight",
            "model.layers.0.self_attn.kv_b_proj.weight", "model.layers.1.mlp.down_proj.weight",
            "model.layers.1.input_layernorm.weight"}) {
        const std::vector<float>& gradient = found.of.at(key);
        const std::size_t element = largest(gradient);
        const auto value_at = [&](double change) {
          testing::Tensors weights = bench.weights();
          weights.at(key)[element] += static_cast<float>(change);
          return objective(c, bench.logprobs(weights), now);
        };
        constexpr double kStep = 2e-3;
        const double want = (value_at(kStep) - value_at(-kStep)) / (2 * kStep);
        INFO(key << " element " << element);
        CHECK(static_cast<double>(gradient[element]) == Approx(want).epsilon(0.01).margin(2e-4));
      }
      // What predicts further tokens takes no part.
      const std::vector<float>& mtp = found.of.at("model.layers.2.eh_proj.weight");
      CHECK(std::all_of(mtp.begin(), mtp.end(), [](float value) { return value == 0.0F; }));
    }
  });
}

TEST_CASE("What a pass tells: counts and extremes of all sequences, and tokens with other bits") {
  test::run_ranks(1, [&](parallel::Communicator& world, Stream& stream) {
    Bench bench(world, stream);
    Case c;
    c.counts = {.num_sequences = 5, .num_tokens = 36};
    c.old = bench.logprobs(bench.weights());
    PolicyReport report = bench.gradient(c, stream).report;
    CHECK(report.num_different == 0);
    CHECK(report.largest_gap == 0.0);
    CHECK(report.statistics.ratio_min == 1.0);
    CHECK(report.statistics.ratio_max == 1.0);
    c.old[1][2] = std::nextafter(c.old[1][2], 0.0F);
    c.old[3][15] += 0.5F;
    report = bench.gradient(c, stream).report;
    CHECK(report.num_different == 2);
    CHECK(report.largest_gap == Approx(0.5).epsilon(1e-6));
    CHECK(report.statistics.ratio_min == Approx(std::exp(-0.5)).epsilon(1e-6));
    CHECK(report.statistics.ratio_max >= 1.0);
    CHECK(report.statistics.num_clipped_tokens == 0);  // A > 0: the bound below does not bind
    c.texts[3].advantage = -1;
    report = bench.gradient(c, stream).report;
    CHECK(report.statistics.num_clipped_tokens == 1);
  });
}

TEST_CASE("A report is the same on all ranks, and counts tensor ranks once") {
  constexpr int kRanks = 3;
  std::vector<PolicyReport> reports(kRanks);
  test::run_ranks(kRanks, [&](parallel::Communicator& world, Stream& stream) {
    // Rank 2 repeats what rank 1 has, as another tensor rank does.
    const int part = std::min(world.rank(), 1);
    PolicyBatch batch;
    batch.places = {{{static_cast<std::size_t>(part), 1}}};
    const std::vector<float> old{-1.0F, -2.0F};
    const PolicyObjective::Sequence sequence = {.old = old, .advantage = 1.0, .weight = 0.5};
    PolicyObjective objective({}, batch, {sequence, sequence});
    Tensor losses = Tensor::zeros(Shape{4}, DType::kFloat32, stream);
    losses.mutable_data<float>()[1] = part == 0 ? 1.0F : 0.5F;  // ratios 1 and e^0.5
    losses.mutable_data<float>()[2] = 2.0F;
    Tensor weights = Tensor::zeros(Shape{4}, DType::kFloat32, stream);
    objective.weigh(0, losses, weights, stream);
    FATHOM_CHECK(weights.values<float>()[0] == 0.0F && weights.values<float>()[3] == 0.0F &&
                 weights.values<float>()[2] == 0.5F);
    reports[static_cast<std::size_t>(world.rank())] = objective.report(world.rank() != 2, world);
  });
  for (const PolicyReport& report : reports) {
    CHECK(report.statistics.num_sequences == 2);
    CHECK(report.statistics.num_tokens == 4);
    CHECK(report.statistics.num_clipped_tokens == 1);
    CHECK(report.statistics.loss == Approx(-0.5 * (1 + 1 + 1.2 + 1)));
    CHECK(report.statistics.old_kl_sum == Approx(-0.5));
    CHECK(report.statistics.ratio_max == Approx(std::exp(0.5)));
    CHECK(report.statistics.ratio_min == 1.0);
    CHECK(report.num_different == 1);
    CHECK(report.largest_gap == 0.5);
  }
}

}  // namespace fathom::rl
