#pragma once

#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "data/tokenizer_json.h"

namespace fathom::test {

inline constexpr std::int32_t kBegin = 256;
inline constexpr std::int32_t kEnd = 257;
inline constexpr std::int32_t kPad = 258;
inline constexpr std::int32_t kUser = 259;
inline constexpr std::int32_t kAssistant = 260;

// Every byte is the token of its number; `added` are tokens from 256 on.
inline data::Tokenizer byte_tokenizer(const std::vector<std::string>& added = {
                                          "<|begin_of_sentence|>", "<|end_of_sentence|>", "<|pad|>",
                                          "<｜User｜>", "<｜Assistant｜>"}) {
  data::TokenizerDefinition definition;
  for (int byte = 0; byte < 256; ++byte) {
    definition.tokens.emplace_back(1, static_cast<char>(byte));
  }
  for (const std::string& text : added) {
    definition.added_tokens.push_back(
        {text, static_cast<std::int32_t>(definition.tokens.size()), true});
    definition.tokens.push_back(text);
  }
  return data::Tokenizer(data::write_tokenizer_json(definition));
}

}  // namespace fathom::test
