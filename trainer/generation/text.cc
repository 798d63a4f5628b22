#include "trainer/generation/text.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

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

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
  for (const std::string& string : strings_) {
    if (string.empty()) {
      throw ConfigError("a stop string is empty: it would end every completion at once");
    }
    longest_ = std::max(longest_, string.size());
  }
}

std::size_t StopStrings::find(std::string_view text) const {
  std::size_t first = text.size();
  for (const std::string& string : strings_) {
    first = std::min(first, text.find(string));
  }
  return first;
}

std::size_t StopStrings::num_undecided(std::string_view text) const {
  for (std::size_t size = std::min(longest_, text.size()); size > 0; --size) {
    for (const std::string& string : strings_) {
      if (string.starts_with(text.substr(text.size() - size))) {
        return size;
      }
    }
  }
  return 0;
}

std::function<bool(std::span<const std::int32_t>)> StopStrings::condition(
    const data::Tokenizer& tokenizer) const {
  if (strings_.empty()) {
    return {};
  }
  return [stop = *this, &tokenizer](std::span<const std::int32_t> tokens) {
    // A token is a byte or more.
    const std::string tail = tokenizer.decode(tokens.last(std::min(tokens.size(), stop.longest_)));
    return stop.find(tail) < tail.size();
  };
}

std::string completion_text(const data::Tokenizer& tokenizer, const Completion& completion,
                            const StopStrings& stop) {
  std::span<const std::int32_t> tokens = completion.tokens;
  if (!tokens.empty() && tokens.back() == tokenizer.special_tokens().eos) {
    tokens = tokens.first(tokens.size() - 1);
  }
  std::string text = tokenizer.decode(tokens);
  text.resize(stop.find(text));
  return text;
}

std::string_view to_text(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

void set_vocabulary(const data::Tokenizer& tokenizer, GenerationOptions& options) {
  // Rows of the model's vocabulary that the tokenizer does not have are padding.
  options.num_allowed = tokenizer.vocab_size();
  options.eos = tokenizer.special_tokens().eos;
}

}  // namespace fathom::trainer
