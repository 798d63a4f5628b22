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

StopStrings::Place StopStrings::find(std::string_view text) const {
  Place first{text.size(), text.size()};
  for (const std::string& string : strings_) {
    const std::size_t begin = text.find(string);
    if (begin < first.begin || (begin == first.begin && begin + string.size() < first.end)) {
      first = {begin, begin + string.size()};
    }
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
    return stop.find(tail).begin < tail.size();
  };
}

CompletionEnd make_completion_end(const data::Tokenizer& tokenizer, std::vector<std::string> stop,
                                  const data::Tokenizer::TextOrToken& end_of_answer) {
  CompletionEnd end;
  for (const std::int32_t token : {tokenizer.special_tokens().eos, end_of_answer.token}) {
    if (token >= 0 && std::ranges::count(end.tokens, token) == 0) {
      end.tokens.push_back(token);
    }
  }
  end.template_end = end_of_answer.text;
  if (!end.template_end.empty()) {
    stop.push_back(end.template_end);
  }
  end.strings = StopStrings(std::move(stop));
  return end;
}

CompletionText completion_text(const data::Tokenizer& tokenizer, const Completion& completion,
                               const CompletionEnd& end) {
  const std::string text = tokenizer.decode(tokens_of_text(completion, end));
  const StopStrings::Place stop = end.strings.find(text);
  CompletionText result{.shown = text.substr(0, stop.begin)};
  // What is left of a string that was asked for and runs into the template's end.
  const std::size_t template_end =
      end.template_end.empty() ? text.size() : text.find(end.template_end);
  if (template_end > stop.begin) {
    result.stop = text.substr(stop.begin, std::min(stop.end, template_end) - stop.begin);
  }
  return result;
}

std::span<const std::int32_t> tokens_of_text(const Completion& completion,
                                             const CompletionEnd& end) {
  const std::span<const std::int32_t> tokens = completion.tokens;
  const bool has_end = !tokens.empty() && std::ranges::count(end.tokens, tokens.back()) > 0;
  return tokens.first(tokens.size() - (has_end ? 1 : 0));
}

std::string_view to_text(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

void set_vocabulary(const data::Tokenizer& tokenizer, const CompletionEnd& end,
                    GenerationOptions& options) {
  options.end_tokens = end.tokens;
  options.is_stop = end.strings.condition(tokenizer);
  // Rows of the model's vocabulary that the tokenizer does not have are padding.
  options.num_allowed = tokenizer.vocab_size();
}

}  // namespace fathom::trainer
