#include "cli/prompt_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/json.h"
#include "data/line_reader.h"
#include "trainer/generation/text.h"

namespace fathom::cli {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// "id" of the object as JSON, else its number.
std::string parse_id(const json& object, const std::string& origin, std::size_t index) {
  if (!object.contains("id")) {
    return std::to_string(index);
  }
  const json& id = object["id"];
  if (!id.is_string() && !id.is_number_integer()) {
    throw ConfigError(concat(origin, ": \"id\" is neither a string nor a whole number"));
  }
  return id.dump();
}

PromptText parse_prompt(const json& object, const std::string& origin, std::size_t index) {
  if (!object.is_object() || !object.contains("prompt") || !object["prompt"].is_string()) {
    throw ConfigError(concat(origin, R"(: want {"prompt": TEXT})"));
  }
  return {parse_id(object, origin, index), object["prompt"].get<std::string>()};
}

bool is_text(const json& value) {
  return value.is_string() && !value.get_ref<const std::string&>().empty();
}

Question parse_question(const json& object, const std::string& origin, std::size_t index) {
  const bool has_fields = object.is_object() && object.contains("prompt") &&
                          object["prompt"].is_string() && object.contains("choices") &&
                          object["choices"].is_array() && object.contains("answer") &&
                          object["answer"].is_number_unsigned();
  if (!has_fields || object["choices"].size() < 2 ||
      !std::ranges::all_of(object["choices"], is_text)) {
    throw ConfigError(
        concat(origin, R"(: want {"prompt": TEXT, "choices": [TEXT, TEXT, ...], "answer": INDEX})",
               ", with two choices or more, none of them empty"));
  }
  Question question{parse_id(object, origin, index), object["prompt"].get<std::string>(),
                    object["choices"].get<std::vector<std::string>>(),
                    object["answer"].get<std::size_t>()};
  if (question.answer >= question.choices.size()) {
    throw ConfigError(concat(origin, ": \"answer\" is ", question.answer, ", and the last of ",
                             question.choices.size(), " choices is ", question.choices.size() - 1,
                             ": it counts from 0"));
  }
  return question;
}

// What parse(object, origin, index) makes of each line that is not blank; at least one.
template <class Item>
std::vector<Item> read_lines(const std::filesystem::path& file, const char* what,
                             Item (*parse)(const json&, const std::string&, std::size_t)) {
  const data::JsonLimits limits;
  data::LineReader reader(file, 0, static_cast<std::int64_t>(limits.bytes));
  std::vector<Item> items;
  std::int64_t number = 0;
  for (std::string line; reader.next(line);) {
    ++number;
    if (line.find_first_not_of(" \t\r\n") != std::string::npos) {
      const std::string origin = concat(file.string(), ':', number);
      items.push_back(parse(data::parse_json(line, origin), origin, items.size()));
    }
  }
  if (items.empty()) {
    throw ConfigError(concat(file.string(), ": holds no ", what));
  }
  return items;
}

}  // namespace

std::vector<PromptText> read_prompts(const std::filesystem::path& file) {
  return read_lines<PromptText>(file, "prompt", parse_prompt);
}

std::vector<Question> read_questions(const std::filesystem::path& file) {
  return read_lines<Question>(file, "question", parse_question);
}

std::string completion_line(const PromptText& prompt, const trainer::Completion& completion,
                            const std::string& text, std::int64_t sample, bool has_several) {
  ordered_json line;
  line["id"] = ordered_json::parse(prompt.id);
  if (has_several) {
    line["sample"] = sample;
  }
  line["prompt"] = prompt.text;
  line["completion"] = text;
  line["tokens"] = completion.tokens;
  line["logprobs"] = completion.logprobs;
  line["finish"] = trainer::to_text(completion.finish);
  return data::json_line(line);
}

std::string_view whole_characters(std::string_view text) {
  const auto is_continuation = [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) == 0x80;
  };
  constexpr std::size_t kLongest = 4;
  for (std::size_t back = 1; back <= std::min(kLongest, text.size()); ++back) {
    const auto lead = static_cast<unsigned char>(text[text.size() - back]);
    if (is_continuation(text[text.size() - back])) {
      continue;
    }
    const std::size_t length = lead >= 0xF0U ? 4 : lead >= 0xE0U ? 3 : lead >= 0xC0U ? 2 : 1;
    return length > back ? text.substr(0, text.size() - back) : text;
  }
  return text;  // no UTF-8
}

}  // namespace fathom::cli
