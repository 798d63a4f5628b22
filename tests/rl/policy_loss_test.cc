#include "rl/policy_loss.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/catch.h"

namespace fathom::rl {
namespace {

// Log-ratios 0.5, 0, -0.5 to the old policy and 0.25, 0, -0.75 from the policy to the reference:
// all are floats without rounding.
const std::vector<float> kPolicy{-1.0F, -2.0F, -1.5F};
const std::vector<float> kOld{-1.5F, -2.0F, -1.0F};
const std::vector<float> kReference{-0.75F, -2.0F, -2.25F};

struct Result {
  std::vector<double> loss;
  std::vector<double> grad;
  PolicyStatistics statistics;
};

Result run(double advantage, const PolicyLossOptions& options, double weight = 1.0) {
  Result result{std::vector<double>(3), std::vector<double>(3), {}};
  result.statistics = policy_loss({kPolicy, kOld, kReference}, advantage, weight, options,
                                  result.loss, result.grad);
  return result;
}

void check_values(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i] == Approx(want[i]).epsilon(1e-8).margin(1e-12));
  }
}

}  // namespace

TEST_CASE("GRPO: worked out by hand") {
  // Ratios e^0.5 = 1.6487212707, 1, e^-0.5 = 0.6065306597; clipped to 0.8 .. 1.2.
  const Result good = run(2, {});
  check_values(good.loss, {-2.4, -2, -1.2130613194});  // min(3.297, 2.4), 2, min(1.213, 1.6)
  check_values(good.grad, {0, -2, -1.2130613194});
  CHECK(good.statistics.num_clipped_tokens == 1);
  const Result bad = run(-2, {});
  check_values(bad.loss, {3.2974425414, 2, 1.6});  // -min(-3.297, -2.4), 2, -min(-1.213, -1.6)
  check_values(bad.grad, {3.2974425414, 2, 0});
  CHECK(bad.statistics.num_clipped_tokens == 1);
  CHECK(bad.statistics.ratio_min == Approx(0.6065306597));
  CHECK(bad.statistics.ratio_max == Approx(1.6487212707));
  CHECK(bad.statistics.loss == Approx(6.8974425414));
  CHECK(bad.statistics.old_kl_sum == 0.0);  // -0.5 - 0 + 0.5
  check_values(run(2, {}, 0.25).loss, {-0.6, -0.5, -0.3032653299});
}

TEST_CASE("DAPO: the upper bound is its own") {
  const PolicyLossOptions higher{.clip_low = 0.2, .clip_high = 0.28};
  check_values(run(2, higher).loss, {-2.56, -2, -1.2130613194});
  check_values(run(-2, higher).loss, {3.2974425414, 2, 1.6});
  // DeepSeek-R1's clip of 10 never binds here.
  check_values(run(-2, {.clip_low = 10, .clip_high = 10}).loss, {3.2974425414, 2, 1.2130613194});
}

TEST_CASE("GSPO: one ratio a sequence, worked out by hand") {
  // With old log-probabilities lower by 0.3 in the last place the mean log-ratio is 0.1.
  const std::vector<float> old{-1.5F, -2.0F, -1.3F};
  const double ratio = std::exp((0.5 + 0.0 + (-1.5 - static_cast<double>(-1.3F))) / 3);
  CHECK(ratio == Approx(1.1051709).epsilon(1e-6));  // e^0.1
  std::vector<double> loss(3);
  std::vector<double> grad(3);
  const PolicyLossOptions wide{.surrogate = Surrogate::kSequence};
  PolicyStatistics statistics = policy_loss({kPolicy, old, {}}, 2, 1.0 / 3, wide, loss, grad);
  check_values(loss, std::vector<double>(3, -2 * ratio / 3));
  check_values(grad, std::vector<double>(3, -2 * ratio / 3));
  CHECK(statistics.loss == Approx(-2 * ratio));
  CHECK(statistics.ratio_min == statistics.ratio_max);
  const PolicyLossOptions narrow{
      .surrogate = Surrogate::kSequence, .clip_low = 3e-4, .clip_high = 4e-4};
  statistics = policy_loss({kPolicy, old, {}}, 2, 1.0 / 3, narrow, loss, grad);
  check_values(loss, std::vector<double>(3, -2 * 1.0004 / 3));
  check_values(grad, {0, 0, 0});
  CHECK(statistics.num_clipped_tokens == 3);
}

TEST_CASE("CISPO: a bounded weight on the log-probability, worked out by hand") {
  // Weights 1.2, 1, 0.8 and log-probabilities -1, -2, -1.5.
  const Result result = run(2, {.surrogate = Surrogate::kWeighted});
  check_values(result.loss, {2.4, 4, 2.4});
  check_values(result.grad, {-2.4, -2, -1.6});  // no token is lost to the clip
  CHECK(result.statistics.num_clipped_tokens == 2);
  const Result open = run(2, {.surrogate = Surrogate::kWeighted, .clip_low = 1});
  check_values(open.grad, {-2.4, -2, -1.2130613194});
}

TEST_CASE("k3 and the unbiased KL: worked out by hand") {
  // r = e^0.25 = 1.2840254167, 1, e^-0.75 = 0.4723665527; k3 = r - log r - 1.
  const std::vector<double> k3{0.0340254167, 0, 0.2223665527};
  const Result plain = run(0, {.kl_weight = 0.5});
  check_values(plain.loss, {0.0170127083, 0, 0.1111832764});
  check_values(plain.grad, {-0.1420127083, 0, 0.2638167236});  // 0.5 (1 - r)
  CHECK(plain.statistics.kl_sum == Approx(0.2563919694));
  const Result unbiased = run(0, {.kl_weight = 0.5, .kl_estimator = KlEstimator::kUnbiased});
  check_values(unbiased.loss, {0.5 * 1.6487212707 * k3[0], 0, 0.5 * 0.6065306597 * k3[2]});
  check_values(unbiased.grad,  // -0.5 rho log r
               {-0.5 * 1.6487212707 * 0.25, 0, 0.5 * 0.6065306597 * 0.75});
  // On policy: the coefficient of grad log pi is A + beta (r - 1), arXiv:2402.03300, app. A.
  std::vector<double> loss(3);
  std::vector<double> grad(3);
  policy_loss({kPolicy, kPolicy, kReference}, 2, 1, {.kl_weight = 0.5}, loss, grad);
  check_values(grad, {-2 - 0.5 * 0.2840254167, -2, -2 + 0.5 * 0.5276334473});
}

TEST_CASE("Normalisations: worked out by hand") {
  const BatchCounts batch{.num_sequences = 4, .num_tokens = 50};
  CHECK(token_weight(batch, 10, {.normalization = LossNormalization::kPerSample}) == 1.0 / 40);
  CHECK(token_weight(batch, 10, {.normalization = LossNormalization::kPerToken}) == 1.0 / 50);
  CHECK(token_weight(batch, 10,
                     {.normalization = LossNormalization::kConstant, .constant_tokens = 100}) ==
        1.0 / 400);
  CHECK_THROWS_AS(token_weight(batch, 0, {}), InternalError);
  CHECK_THROWS_AS(token_weight(batch, 51, {}), InternalError);
}

TEST_CASE("Sequences that were cut off or have no verdict are left out") {
  CHECK(takes_part({.is_truncated = true}, {}));
  CHECK_FALSE(takes_part({.is_truncated = true}, {.masks_truncated = true}));
  CHECK(takes_part({}, {.masks_truncated = true}));
  CHECK_FALSE(takes_part({.has_reward = false}, {}));
}

TEST_CASE("Off-policy sequences with a negative advantage keep their KL alone") {
  // 1/T sum log(pi_old / pi) of these is 0.4.
  const std::vector<float> old{-0.6F, -1.6F, -1.1F};
  const auto masked = [&](double advantage, double threshold) {
    std::vector<double> loss(3);
    std::vector<double> grad(3);
    const PolicyLossOptions options{.kl_weight = 0.5, .off_policy_threshold = threshold};
    const PolicyStatistics statistics =
        policy_loss({kPolicy, old, kReference}, advantage, 1, options, loss, grad);
    const bool has_kl_alone = grad[1] == 0 && loss[1] == 0 && loss[0] == Approx(0.0170127083);
    CHECK(has_kl_alone == (statistics.num_masked_sequences == 1));
    return has_kl_alone;
  };
  CHECK(masked(-1, 0.39));
  CHECK_FALSE(masked(-1, 0.41));
  CHECK_FALSE(masked(1, 0.39));
}

TEST_CASE("How far the policy is from its sampler is measured by what the sampler drew by") {
  std::vector<float> sampled(kPolicy.begin(), kPolicy.end());
  for (float& logprob : sampled) {
    logprob += 0.5F;
  }
  std::vector<double> loss(3);
  std::vector<double> grad(3);
  const auto num_masked = [&](double threshold) {
    return policy_loss({.policy = kPolicy, .old = kPolicy, .sampled = sampled}, -1, 1,
                       {.off_policy_threshold = threshold}, loss, grad)
        .num_masked_sequences;
  };
  CHECK(num_masked(0.49) == 1);
  CHECK(grad == std::vector<double>(3));
  CHECK(num_masked(0.51) == 0);
  CHECK(grad != std::vector<double>(3));
}

TEST_CASE("On policy the ratio is exactly 1, whatever the log-probabilities") {
  const RandomSource random(1, "logprobs");
  std::vector<float> logprobs;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    logprobs.push_back(-std::abs(random.normal(i)));
  }
  std::vector<double> loss(1000);
  std::vector<double> grad(1000);
  for (const Surrogate surrogate :
       {Surrogate::kToken, Surrogate::kSequence, Surrogate::kWeighted}) {
    const PolicyStatistics statistics =
        policy_loss({logprobs, logprobs, {}}, -0.7, 0.01, {.surrogate = surrogate}, loss, grad);
    CHECK(statistics.ratio_min == 1.0);
    CHECK(statistics.ratio_max == 1.0);
    CHECK(statistics.num_clipped_tokens == 0);
    CHECK(std::all_of(grad.begin(), grad.end(), [](double g) { return g == 0.01 * 0.7; }));
  }
}

TEST_CASE("Derivatives match finite differences of the summed loss") {
  constexpr std::size_t kTokens = 9;
  constexpr float kStep = 0x1p-9F;  // log-probabilities are multiples of it: steps are exact
  const RandomSource random(2, "logprobs");
  const auto draw = [&](std::uint64_t first, double spread) {
    std::vector<float> values(kTokens);
    for (std::size_t t = 0; t < kTokens; ++t) {
      const double value = -2 + spread * (random.uniform(first + t) - 0.5);
      values[t] = static_cast<float>(std::round(value / kStep)) * kStep;
    }
    return values;
  };
  int num_checked = 0;
  for (std::uint64_t trial = 0; trial < 40; ++trial) {
    std::vector<float> policy = draw(100 * trial, 1);
    const std::vector<float> old = draw(100 * trial + 20, 1);
    const std::vector<float> reference = draw(100 * trial + 40, 1);
    PolicyLossOptions options{
        .surrogate = trial % 2 == 0 ? Surrogate::kToken : Surrogate::kSequence,
        .clip_low = 0.3,
        .kl_weight = trial % 4 < 2 ? 0.3 : 0,
        .kl_estimator = trial % 8 < 4 ? KlEstimator::kK3 : KlEstimator::kUnbiased};
    const double advantage = trial % 3 == 0 ? -1.3 : 0.9;
    std::vector<double> loss(kTokens);
    std::vector<double> grad(kTokens);
    std::vector<double> ignored(kTokens);
    policy_loss({policy, old, reference}, advantage, 0.1, options, loss, grad);
    for (std::size_t t = 0; t < kTokens; ++t) {
      const auto stepped = [&](float by, std::vector<double>& grads) {
        policy[t] += by;
        const PolicyStatistics statistics =
            policy_loss({policy, old, reference}, advantage, 0.1, options, ignored, grads);
        policy[t] -= by;
        return statistics;
      };
      std::vector<double> grad_up(kTokens);
      std::vector<double> grad_down(kTokens);
      const PolicyStatistics up = stepped(kStep, grad_up);
      const PolicyStatistics down = stepped(-kStep, grad_down);
      if (up.num_clipped_tokens != down.num_clipped_tokens) {
        continue;  // a corner lies between
      }
      ++num_checked;
      CHECK(grad[t] == Approx((up.loss - down.loss) / (2 * kStep)).epsilon(1e-4).margin(1e-6));
    }
  }
  CHECK(num_checked > 300);
}

TEST_CASE("CISPO's derivative matches finite differences with its weights held") {
  std::vector<double> loss(3);
  std::vector<double> grad(3);
  const PolicyLossOptions options{.surrogate = Surrogate::kWeighted};
  policy_loss({kPolicy, kOld, {}}, 1.5, 0.2, options, loss, grad);
  for (std::size_t t = 0; t < 3; ++t) {
    // loss = -w bounded A log pi: linear in log pi for held weights.
    CHECK(grad[t] == Approx(loss[t] / kPolicy[t]));
  }
}

TEST_CASE("Statistics of several sequences are put together") {
  PolicyStatistics all = run(2, {}).statistics;
  all.add(run(-2, {.kl_weight = 0.5}).statistics);
  CHECK(all.num_sequences == 2);
  CHECK(all.num_tokens == 6);
  CHECK(all.num_clipped_tokens == 2);
  CHECK(all.kl_sum == Approx(0.2563919694));
  CHECK(all.ratio_max == Approx(1.6487212707));
}

TEST_CASE("Settings that make no sense are refused, all at once") {
  CHECK_NOTHROW(validate(PolicyLossOptions{}));
  CHECK_NOTHROW(validate({.clip_low = 10, .clip_high = 10, .off_policy_threshold = 0.0}));
  try {
    validate({.normalization = LossNormalization::kConstant,
              .clip_low = -0.1,
              .clip_high = NAN,
              .kl_weight = -1,
              .off_policy_threshold = -1e-4});
    FAIL("accepted");
  } catch (const ConfigError& error) {
    for (const std::string name : {"clip_low is -0.1", "clip_high is nan", "kl_weight is -1",
                                   "constant_tokens is 0", "off_policy_threshold is -0.0001"}) {
      CHECK(error.message().find(name) != std::string::npos);
    }
  }
}

TEST_CASE("Lengths that differ are bugs") {
  std::vector<double> loss(3);
  std::vector<double> grad(3);
  const std::vector<float> two{-1.0F, -1.0F};
  CHECK_THROWS_AS(policy_loss({kPolicy, two, {}}, 1, 1, {}, loss, grad), InternalError);
  CHECK_THROWS_AS(policy_loss({kPolicy, kOld, {}}, 1, 1, {.kl_weight = 1}, loss, grad),
                  InternalError);
  CHECK_THROWS_AS(policy_loss({{}, {}, {}}, 1, 1, {}, {}, {}), InternalError);
}

}  // namespace fathom::rl
