#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "configs/run_config.h"
#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "trainer/generation/text.h"
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

// Turns a text into the tokens of a user's message, with data.chat around it and the marker of the
// answer behind it. The tokenizer outlives what is returned. Throws ConfigError when it lacks what
// the template needs.
std::function<std::vector<std::int32_t>(const std::string& text)> make_chat_encoder(
    const config::RunConfig& config, const data::Tokenizer& tokenizer);

// What ends a completion: the end of a sentence, `stop` and, in a chat, what data.chat has behind
// an answer. Throws ConfigError for an empty string, and in a chat as make_chat_encoder().
CompletionEnd make_completion_end(const config::RunConfig& config, const data::Tokenizer& tokenizer,
                                  bool is_chat, std::vector<std::string> stop = {});

}  // namespace fathom::trainer
