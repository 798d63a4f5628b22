#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"
#include "rl/problems/problem.h"

namespace fathom::rl {

// What the model reads of a problem.
using EncodeProblem = std::function<std::vector<std::int32_t>(const Problem&)>;

// Room for a prompt and its completion together, in tokens.
struct PromptRoom {
  std::int64_t max_tokens = 0;
  std::int64_t max_new_tokens = 0;  // of it: the completion's
  std::string_view limited_by;      // the config's field
};

// The tokens that a completion of the problem follows. Throws ConfigError when a completion of
// max_new_tokens would be cut off by the end of the room, and count as a wrong answer.
std::vector<std::int32_t> encode_prompt(const Problem& problem, const EncodeProblem& encode,
                                        const data::Tokenizer& tokenizer, const PromptRoom& room);

}  // namespace fathom::rl
