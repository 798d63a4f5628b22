#include "trainer/token_schedules.h"

#include "configs/schema/run.pb.h"

namespace fathom::trainer {
namespace {

// 0 tokens: never.
bool has_come(std::int64_t since_tokens, std::int64_t tokens) {
  return since_tokens > 0 && tokens >= since_tokens;
}

}  // namespace

double mtp_loss_weight(const config::RunConfig& config, std::int64_t tokens) {
  const config::Train& train = config.train();
  return has_come(train.mtp_loss_weight_later_tokens(), tokens) ? train.mtp_loss_weight_later()
                                                                : train.mtp_loss_weight();
}

double selection_bias_rate(const config::RunConfig& config, std::int64_t tokens) {
  return has_come(config.train().selection_bias_freeze_tokens(), tokens)
             ? 0.0
             : config.model().moe().selection_bias_update_rate();
}

}  // namespace fathom::trainer
