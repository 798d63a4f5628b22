#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"
#include "trainer/generation/sequence.h"

namespace fathom::trainer {

// Tokens to go on from. Where there are none, the end of a sentence, after which a text begins.
Prompt make_prompt(const data::Tokenizer& tokenizer, std::string id,
                   std::vector<std::int32_t> tokens);

// Strings that end a completion where its text comes to contain one of them.
class StopStrings {
 public:
  StopStrings() = default;
  // Throws ConfigError for an empty string.
  explicit StopStrings(std::vector<std::string> strings);

  // Where the first of them begins in `text`; its size where none is in it.
  std::size_t find(std::string_view text) const;
  // Bytes at the end of `text` that may turn out to be the beginning of one.
  std::size_t num_undecided(std::string_view text) const;
  // For GenerationOptions::is_stop; empty without strings. The tokenizer outlives it. Looks at no
  // more of the last tokens than a string that ends with the last one can reach back.
  std::function<bool(std::span<const std::int32_t>)> condition(
      const data::Tokenizer& tokenizer) const;

 private:
  std::vector<std::string> strings_;
  std::size_t longest_ = 0;  // bytes
};

// The text of a completion, without the token or the string that ended it.
std::string completion_text(const data::Tokenizer& tokenizer, const Completion& completion,
                            const StopStrings& stop = {});

// "stop" or "length".
std::string_view to_text(FinishReason reason);

// Tells the tokenizer's ids, and which of them ends a completion, to the options.
void set_vocabulary(const data::Tokenizer& tokenizer, GenerationOptions& options);

}  // namespace fathom::trainer
