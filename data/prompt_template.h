#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/document_start.h"
#include "data/tokenizer.h"

namespace fathom::data {

// What stands around a prompt: a text with {prompt} in it. What it has of the texts of added tokens
// becomes these tokens; a prompt is text, whatever it holds. Immutable: may be shared by threads.
class PromptTemplate {
 public:
  // The tokenizer outlives it. `start` stands before all, where the text does not begin with it.
  // Throws ConfigError for a text without {prompt}, and as token_before().
  PromptTemplate(const Tokenizer& tokenizer, const std::string& text,
                 DocumentStart start = DocumentStart::kPlain);

  // Template and prompt, in the place of the first {prompt}: text and the tokens between it.
  std::vector<Tokenizer::TextOrToken> render(std::string_view prompt) const;
  std::vector<std::int32_t> encode(std::string_view prompt) const;

 private:
  const Tokenizer* tokenizer_;
  std::vector<Tokenizer::TextOrToken> before_;
  std::vector<Tokenizer::TextOrToken> after_;
};

}  // namespace fathom::data
