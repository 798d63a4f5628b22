#include "trainer/token_schedules.h"

#include "configs/schema/run.pb.h"
#include "tests/support/catch.h"

namespace fathom::trainer {

TEST_CASE("The weight of multi-token prediction changes at its tokens, and never without them") {
  config::RunConfig config;
  config.mutable_train()->set_mtp_loss_weight(0.3);
  config.mutable_train()->set_mtp_loss_weight_later(0.1);
  CHECK(mtp_loss_weight(config, 0) == 0.3);
  CHECK(mtp_loss_weight(config, 1'000'000'000'000) == 0.3);
  config.mutable_train()->set_mtp_loss_weight_later_tokens(500);
  CHECK(mtp_loss_weight(config, 499) == 0.3);
  CHECK(mtp_loss_weight(config, 500) == 0.1);
}

TEST_CASE("Selection biases stand still from their tokens on, and never without them") {
  config::RunConfig config;
  config.mutable_model()->mutable_moe()->set_selection_bias_update_rate(0.001);
  CHECK(selection_bias_rate(config, 0) == 0.001);
  CHECK(selection_bias_rate(config, 1'000'000'000'000) == 0.001);
  config.mutable_train()->set_selection_bias_freeze_tokens(500);
  CHECK(selection_bias_rate(config, 499) == 0.001);
  CHECK(selection_bias_rate(config, 500) == 0.0);
}

}  // namespace fathom::trainer
