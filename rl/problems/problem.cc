#include "rl/problems/problem.h"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"
#include "data/json.h"
#include "data/line_reader.h"
#include "rl/verifiers/verifier.h"

namespace fathom::rl {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxLineBytes = std::int64_t{4} << 20;

const std::string& field(const json& object, const char* name, const std::string& origin) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) {
    throw ConfigError(concat(origin, ": want an object with the text field \"", name,
                             "\", as in {\"id\": \"1\", \"prompt\": \"2 + 2 =\\n\", \"answer\": "
                             "\"4\", \"verifier\": \"number\"}"));
  }
  return found->get_ref<const std::string&>();
}

Problem parse_problem(const std::string& line, const std::string& origin) {
  const json object = data::parse_json(line, origin);
  Problem problem{.id = field(object, "id", origin),
                  .prompt = field(object, "prompt", origin),
                  .answer = field(object, "answer", origin),
                  .verifier = field(object, "verifier", origin)};
  if (problem.prompt.empty()) {
    throw ConfigError(concat(origin, ": the prompt is empty"));
  }
  try {
    make_verifier(problem.verifier, problem.answer);
  } catch (const ConfigError& error) {
    throw ConfigError(concat(origin, ": ", error.message()));
  }
  return problem;
}

bool is_blank(const std::string& line) {
  return line.find_first_not_of(" \t\r\n") == std::string::npos;
}

}  // namespace

std::string render_prompt(const std::string& prompt_template, const std::string& prompt) {
  constexpr std::string_view kPlace = "{prompt}";
  std::string text = prompt_template;
  return text.replace(text.find(kPlace), kPlace.size(), prompt);
}

std::string to_json_line(const Problem& problem) {
  nlohmann::ordered_json object;
  object["id"] = problem.id;
  object["prompt"] = problem.prompt;
  object["answer"] = problem.answer;
  object["verifier"] = problem.verifier;
  return object.dump();
}

std::vector<Problem> read_problems(const std::filesystem::path& file) {
  data::LineReader reader(file, 0, kMaxLineBytes);
  std::vector<Problem> problems;
  std::unordered_map<std::string, std::int64_t> line_of_id;
  std::int64_t line_number = 0;
  for (std::string line; reader.next(line);) {
    ++line_number;
    const std::string origin = concat(file.string(), ":", line_number);
    if (static_cast<std::int64_t>(line.size()) >= kMaxLineBytes) {
      throw ConfigError(concat(origin, ": a line of more than ", kMaxLineBytes, " bytes"));
    }
    if (is_blank(line)) {
      continue;
    }
    Problem problem = parse_problem(line, origin);
    const auto [found, is_new] = line_of_id.try_emplace(problem.id, line_number);
    if (!is_new) {
      throw ConfigError(concat(origin, ": the id \"", problem.id, "\" is that of line ",
                               found->second, " too; samples are named by it"));
    }
    problems.push_back(std::move(problem));
  }
  if (problems.empty()) {
    throw ConfigError(concat(file.string(), ": holds no problems"));
  }
  return problems;
}

}  // namespace fathom::rl
