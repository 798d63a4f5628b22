#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/generation/sequence.h"

namespace fathom::cli {

// A prompt as a user wrote it.
struct PromptText {
  std::string id;  // JSON: as in the file, or the number of the prompt there, from 0
  std::string text;
};

// JSON lines {"prompt": TEXT} with an "id" (a number or a string) where wanted; other fields are
// left alone. Throws IoError, and ConfigError naming file and line.
std::vector<PromptText> read_prompts(const std::filesystem::path& file);

// A question of which one choice is right.
struct Question {
  std::string id;  // as PromptText's
  std::string prompt;
  std::vector<std::string> choices;  // at least two, none empty
  std::size_t answer = 0;            // index of the right one
};

// JSON lines {"prompt": TEXT, "choices": [TEXT, ...], "answer": INDEX} with an "id" where wanted;
// the index counts from 0. Throws as read_prompts().
std::vector<Question> read_questions(const std::filesystem::path& file);

// {"id", "prompt", "completion", "tokens", "logprobs", "finish"} in a line; "sample" after the id
// where a prompt has several. Bytes that are no UTF-8 become U+FFFD in the texts.
std::string completion_line(const PromptText& prompt, const trainer::Completion& completion,
                            const std::string& text, std::int64_t sample, bool has_several);

// The part of `text` up to its last whole character of UTF-8.
std::string_view whole_characters(std::string_view text);

}  // namespace fathom::cli
