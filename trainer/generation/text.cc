#include "trainer/generation/text.h"

#include <algorithm>
#include <utility>

namespace fathom::trainer {

Prompt make_prompt(const data::Tokenizer& tokenizer, std::string id,
                   std::vector<std::int32_t> tokens) {
  Prompt prompt;
  prompt.id = std::move(id);
  prompt.tokens = std::move(tokens);
  if (prompt.tokens.empty()) {
    prompt.tokens.push_back(std::max(0, tokenizer.special_tokens().eos));
  }
  return prompt;
}

std::string completion_text(const data::Tokenizer& tokenizer, const Completion& completion) {
  std::span<const std::int32_t> tokens = completion.tokens;
  if (!tokens.empty() && tokens.back() == tokenizer.special_tokens().eos) {
    tokens = tokens.first(tokens.size() - 1);
  }
  return tokenizer.decode(tokens);
}

void set_vocabulary(const data::Tokenizer& tokenizer, GenerationOptions& options) {
  // Rows of the model's vocabulary that the tokenizer does not have are padding.
  options.num_allowed = tokenizer.vocab_size();
  options.eos = tokenizer.special_tokens().eos;
}

}  // namespace fathom::trainer
