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

  // Bytes of a text, from `begin` to before `end`.
  struct Place {
    std::size_t begin = 0;
    std::size_t end = 0;

    bool operator==(const Place&) const = default;
  };
  // Where the first of them is in `text`, of several that begin there the shortest; behind the text
  // where none is in it.
  Place find(std::string_view text) const;
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

// What ends a completion.
struct CompletionEnd {
  std::vector<std::int32_t> tokens = {};  // each of them, and it is no part of the text
  StopStrings strings = {};               // the template's end among them
  std::string template_end = {};          // no part of the text either; empty: none
};

// The end of a sentence, the strings that were asked for, and what a chat template has behind an
// answer (data/chat_template.h), where there is one. Throws ConfigError for an empty string.
CompletionEnd make_completion_end(const data::Tokenizer& tokenizer,
                                  std::vector<std::string> stop = {},
                                  const data::Tokenizer::TextOrToken& end_of_answer = {});

// The text of a completion, which is shown without the string that was asked for and ended it.
// Whoever judges it needs both: the string may be a tag that closes the answer.
struct CompletionText {
  std::string shown = {};
  std::string stop = {};  // empty: it ended in another way

  std::string whole() const { return shown + stop; }
  bool operator==(const CompletionText&) const = default;
};
CompletionText completion_text(const data::Tokenizer& tokenizer, const Completion& completion,
                               const CompletionEnd& end);

// The tokens that have text: all but one that ended the completion.
std::span<const std::int32_t> tokens_of_text(const Completion& completion,
                                             const CompletionEnd& end);

// "stop" or "length".
std::string_view to_text(FinishReason reason);

// Tells the options which ids the tokenizer has and what ends a completion. The tokenizer outlives
// them.
void set_vocabulary(const data::Tokenizer& tokenizer, const CompletionEnd& end,
                    GenerationOptions& options);

}  // namespace fathom::trainer
