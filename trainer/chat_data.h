#pragma once

#include "configs/run_config.h"
#include "data/chat_template.h"
#include "trainer/run_data.h"

namespace fathom::trainer {

// What a supervised fine-tuning run reads: conversations to train on and held-out ones, in memory,
// of which the answers are learnt. Throws ConfigError and IoError naming file, line and field.
// Looks at files only; no other rank is involved.
RunSources open_chat_data(const config::RunConfig& config);

// data.chat as markers.
data::ChatMarkers make_chat_markers(const config::RunConfig& config);

// data.tokenizer. Throws ConfigError when it has more tokens than the model.
std::unique_ptr<data::Tokenizer> load_tokenizer(const config::RunConfig& config);

}  // namespace fathom::trainer
