#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "trainer/generation/sequence.h"

namespace fathom::trainer {

// Tokens to go on from. Where there are none, the end of a sentence, after which a text begins.
Prompt make_prompt(const data::Tokenizer& tokenizer, std::string id,
                   std::vector<std::int32_t> tokens);

// The text of a completion, without the token that ended it.
std::string completion_text(const data::Tokenizer& tokenizer, const Completion& completion);

// Tells the tokenizer's ids, and which of them ends a completion, to the options.
void set_vocabulary(const data::Tokenizer& tokenizer, GenerationOptions& options);

}  // namespace fathom::trainer
