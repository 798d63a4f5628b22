#pragma once

#include "configs/run_config.h"
#include "trainer/run_data.h"

namespace fathom::trainer {

// What a supervised fine-tuning run reads: conversations to train on and held-out ones, in memory,
// of which the answers are learnt. Throws ConfigError and IoError naming file, line and field.
// Looks at files only; no other rank is involved.
RunSources open_chat_data(const config::RunConfig& config);

}  // namespace fathom::trainer
