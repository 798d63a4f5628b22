#include "data/prompt_template.h"

#include "core/error.h"

namespace fathom::data {

PromptTemplate::PromptTemplate(const Tokenizer& tokenizer, const std::string& text,
                               DocumentStart start)
    : tokenizer_(&tokenizer) {
  constexpr std::string_view kPlace = "{prompt}";
  const std::size_t place = text.find(kPlace);
  if (place == std::string::npos) {
    throw ConfigError(concat("the prompt template \"", text, "\" has no {prompt} in it"));
  }
  before_ = tokenizer.parse(text.substr(0, place));
  const std::optional<std::int32_t> first = token_before(tokenizer, start);
  if (first && (before_.empty() || before_.front().token != *first)) {
    before_.insert(before_.begin(), {.text = "", .token = *first});
  }
  after_ = tokenizer.parse(text.substr(place + kPlace.size()));
}

std::vector<Tokenizer::TextOrToken> PromptTemplate::render(std::string_view prompt) const {
  std::vector<Tokenizer::TextOrToken> parts = before_;
  parts.push_back({.text = std::string(prompt)});
  parts.insert(parts.end(), after_.begin(), after_.end());
  return parts;
}

std::vector<std::int32_t> PromptTemplate::encode(std::string_view prompt) const {
  return tokenizer_->encode(render(prompt));
}

}  // namespace fathom::data
