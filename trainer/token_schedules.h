#pragma once

#include <cstdint>

#include "configs/run_config.h"

namespace fathom::trainer {

// What changes once a run has seen so many tokens (arXiv:2412.19437, section 4.2); `tokens` are
// those seen before the step that asks.

// Weight of the multi-token prediction loss: train.mtp_loss_weight, and mtp_loss_weight_later from
// mtp_loss_weight_later_tokens on.
double mtp_loss_weight(const config::RunConfig& config, std::int64_t tokens);

// Step of the selection biases: model.moe.selection_bias_update_rate, and 0 from
// train.selection_bias_freeze_tokens on.
double selection_bias_rate(const config::RunConfig& config, std::int64_t tokens);

}  // namespace fathom::trainer
