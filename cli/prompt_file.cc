#include "cli/prompt_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/json.h"
#include "data/line_reader.h"

namespace fathom::cli {
namespace {

using nlohmann::ordered_json;

PromptText parse_prompt(const std::string& line, const std::string& origin, std::size_t index) {
  const nlohmann::json object = data::parse_json(line, origin);
  if (!object.is_object() || !object.contains("prompt") || !object["prompt"].is_string()) {
    throw ConfigError(concat(origin, R"(: want {"prompt": TEXT})"));
  }
  PromptText prompt{std::to_string(index), object["prompt"].get<std::string>()};
  if (object.contains("id")) {
    const nlohmann::json& id = object["id"];
    if (!id.is_string() && !id.is_number_integer()) {
      throw ConfigError(concat(origin, ": \"id\" is neither a string nor a whole number"));
    }
    prompt.id = id.dump();
  }
  return prompt;
}

const char* name_of(trainer::FinishReason reason) {
  return reason == trainer::FinishReason::kStop ? "stop" : "length";
}

}  // namespace

std::vector<PromptText> read_prompts(const std::filesystem::path& file) {
  const data::JsonLimits limits;
  data::LineReader reader(file, 0, static_cast<std::int64_t>(limits.bytes));
  std::vector<PromptText> prompts;
  std::int64_t number = 0;
  for (std::string line; reader.next(line);) {
    ++number;
    if (line.find_first_not_of(" \t\r\n") != std::string::npos) {
      prompts.push_back(parse_prompt(line, concat(file.string(), ':', number), prompts.size()));
    }
  }
  if (prompts.empty()) {
    throw ConfigError(concat(file.string(), ": holds no prompt"));
  }
  return prompts;
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
  line["finish"] = name_of(completion.finish);
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
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
