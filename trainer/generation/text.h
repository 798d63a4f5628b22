#pragma once

#include <string>
#include <string_view>

#include "data/tokenizer.h"
#include "trainer/generation/sequence.h"

namespace fathom::trainer {

// A text to go on from. An empty one is the end of a sentence, after which a text begins.
Prompt make_prompt(const data::Tokenizer& tokenizer, std::string id, std::string_view text);

// The text of a completion, without the token that ended it.
std::string completion_text(const data::Tokenizer& tokenizer, const Completion& completion);

// Tells the tokenizer's ids, and which of them ends a completion, to the options.
void set_vocabulary(const data::Tokenizer& tokenizer, GenerationOptions& options);

}  // namespace fathom::trainer
