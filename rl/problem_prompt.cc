#include "rl/problem_prompt.h"

#include "core/error.h"
#include "trainer/generation/text.h"

namespace fathom::rl {

std::vector<std::int32_t> encode_prompt(const Problem& problem, const EncodeProblem& encode,
                                        const data::Tokenizer& tokenizer, const PromptRoom& room) {
  std::vector<std::int32_t> tokens =
      trainer::make_prompt(tokenizer, problem.id, encode(problem)).tokens;
  if (std::ssize(tokens) + room.max_new_tokens > room.max_tokens) {
    throw ConfigError(concat("problem ", problem.id, ": a prompt of ", tokens.size(),
                             " tokens and rollout.max_new_tokens (", room.max_new_tokens,
                             ") are more than the ", room.max_tokens, " that ", room.limited_by,
                             " allows: raise it, or take the problem out"));
  }
  return tokens;
}

}  // namespace fathom::rl
