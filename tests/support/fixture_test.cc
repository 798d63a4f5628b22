#include "tests/support/fixture.h"

#include <cmath>

#include "core/error.h"
#include "tests/support/catch.h"

using fathom::testing::Fixture;
using fathom::testing::parity_fixture;

namespace {

// Mean cross-entropy in nats over the tokens whose mask is 1, in float64.
double mean_loss(const std::vector<float>& logits, const std::int32_t* targets, const float* masks,
                 std::int64_t num_tokens, std::int64_t vocab_size) {
  double sum = 0.0;
  double count = 0.0;
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    const float* row = logits.data() + token * vocab_size;
    double exp_sum = 0.0;
    for (std::int64_t c = 0; c < vocab_size; ++c) {
      exp_sum += std::exp(static_cast<double>(row[c]));
    }
    sum += masks[token] * (std::log(exp_sum) - row[targets[token]]);
    count += masks[token];
  }
  return sum / count;
}

}  // namespace

TEST_CASE("every parity fixture can be read and its loss is that of its logits") {
  const std::string name = GENERATE("v3_q_lora", "v3_no_q_lora", "v3_yarn", "v2_groups", "v2_lite",
                                    "v2_balance", "v3_mtp1", "v3_mtp2_balance");
  CAPTURE(name);
  const Fixture fixture = parity_fixture(name);
  const auto config = fixture.config();
  const auto& logits = fixture.floats("logits");
  const auto& targets = fixture.integers("targets");
  const auto& masks = fixture.floats("masks");
  REQUIRE(targets.shape == masks.shape);
  REQUIRE(targets.shape[0] == config.at("mtp_depth").get<std::int64_t>() + 1);
  REQUIRE(logits.shape == std::vector<std::int64_t>{targets.shape[1], targets.shape[2],
                                                    config.at("vocab_size").get<std::int64_t>()});
  const std::int64_t num_tokens = logits.shape[0] * logits.shape[1];
  CHECK(fixture.scalar("loss") ==
        Approx(mean_loss(logits.values, targets.values.data(), masks.values.data(), num_tokens,
                         logits.shape[2]))
            .epsilon(1e-6));

  double total = fixture.scalar("loss") + fixture.scalar("balance_loss");
  if (config.at("mtp_depth") > 0) {
    const auto& mtp = fixture.floats("mtp_losses").values;
    for (const float loss : mtp) {
      total += fixture.number("mtp_loss_weight") * loss / static_cast<double>(mtp.size());
    }
  }
  CHECK(fixture.scalar("total_loss") == Approx(total).epsilon(1e-6));

  const auto weights = fixture.folder("weights");
  for (const auto& [key, gradient] : fixture.folder("gradients")) {
    CAPTURE(key);
    REQUIRE(weights.contains(key));
    CHECK(weights.at(key).shape == gradient.shape);
  }
}

TEST_CASE("every token of a parity fixture goes to top_k experts") {
  const Fixture fixture = parity_fixture("v3_mtp2_balance");
  const auto& counts = fixture.integers("expert_counts");
  REQUIRE(counts.shape == std::vector<std::int64_t>{3, 8});
  for (std::size_t layer = 0; layer < 3; ++layer) {
    std::int64_t sum = 0;
    for (std::size_t expert = 0; expert < 8; ++expert) {
      sum += counts.values[layer * 8 + expert];
    }
    CHECK(sum == 48 * fixture.config()["moe"]["top_k"].get<std::int64_t>());
  }
}

TEST_CASE("the loss curve fixture falls over 50 steps") {
  const Fixture fixture = parity_fixture("loss_curve");
  const auto& losses = fixture.floats("losses").values;
  REQUIRE(losses.size() == 50);
  CHECK(losses.back() < losses.front() - 1.0F);
  CHECK(fixture.json("optimizer").at("beta2") == 0.95);
}

TEST_CASE("a fixture that is not there, or an array that is not in it, is named") {
  REQUIRE_THROWS_AS(Fixture("/nonexistent/fixture.h5"), fathom::IoError);
  const Fixture fixture = parity_fixture("v2_lite");
  CHECK_FALSE(fixture.has("mtp_losses"));
  REQUIRE_THROWS_AS(fixture.floats("mtp_losses"), fathom::IoError);
}
