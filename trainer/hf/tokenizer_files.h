#pragma once

#include <cstdint>
#include <string>

#include "data/chat_template.h"
#include "data/document_start.h"
#include "data/tokenizer.h"

namespace fathom::trainer {

// What transformers reads beside tokenizer.json.

// generation_config.json: where a text begins and ends.
std::string generation_config_json(const data::Tokenizer& tokenizer);

// tokenizer_config.json: the special tokens, what is added before texts that are encoded, as with
// us, and the chat template, which gives a conversation the same text as ours does.
std::string tokenizer_config_json(const data::Tokenizer& tokenizer,
                                  const data::ChatMarkers& markers, data::DocumentStart start,
                                  std::int64_t max_position);

// The markers as a Jinja template.
std::string chat_template_jinja(const data::Tokenizer& tokenizer, const data::ChatMarkers& markers);

}  // namespace fathom::trainer
