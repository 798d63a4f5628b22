#include "cli/evaluation_request.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "core/error.h"
#include "rl/sample_statistics.h"

namespace fathom::cli {
namespace {

constexpr std::string_view kPlaceholder = "{prompt}";
constexpr const char* kSeedOption = "problem_seed";

std::vector<std::int64_t> parse_ks(const std::string& text) {
  std::vector<std::int64_t> ks;
  const char* next = text.data();
  const char* const end = next + text.size();
  while (true) {
    std::int64_t k = 0;
    const auto [stop, error] = std::from_chars(next, end, k);
    if (error != std::errc() || (stop != end && *stop != ',')) {
      throw ConfigError(concat("--k ", text, ": want whole numbers with commas, such as 1,4,16"));
    }
    ks.push_back(k);
    if (stop == end) {
      return ks;
    }
    next = stop + 1;
  }
}

rl::ExtractionMode parse_extraction(const std::string& text) {
  if (text == "tagged") {
    return rl::ExtractionMode::kTagged;
  }
  if (text == "whole") {
    return rl::ExtractionMode::kWhole;
  }
  if (text == "lenient") {
    return rl::ExtractionMode::kLenient;
  }
  throw ConfigError(concat("--extract ", text, ": want tagged, whole or lenient"));
}

std::string parse_template(const std::string& text) {
  if (text.find(kPlaceholder) == std::string::npos) {
    throw ConfigError(concat("--template ", text, ": there is no {prompt} in it"));
  }
  return text;
}

void read_problems(const ParsedOptions& given, EvaluationRequest& request) {
  request.problems_file = given.value("problems").value_or("");
  if (given.has("family")) {
    request.family = read_family_problems(given.required("family"), given, kSeedOption);
  }
  if (!request.problems_file.empty() && request.family) {
    throw ConfigError("give one of --problems FILE and --family NAME");
  }
  request.ks = given.has("k") ? parse_ks(given.required("k")) : std::vector<std::int64_t>{1};
  rl::check_ks(request.ks, request.generation.num_samples);
  request.extraction = parse_extraction(given.value("extract").value_or("lenient"));
}

}  // namespace

std::string EvaluationRequest::render(const std::string& prompt) const {
  return rl::render_prompt(prompt_template, prompt);
}

std::string EvaluationRequest::asked_template() const {
  return generation.is_chat
             ? prompt_template
             : prompt_template.substr(0, prompt_template.find(kPlaceholder) + kPlaceholder.size());
}

std::string EvaluationRequest::lead() const {
  return prompt_template.substr(asked_template().size());
}

EvaluationRequest read_evaluation_request(std::span<const std::string> arguments) {
  std::vector<OptionSpec> specs = generation_option_specs();
  std::ranges::copy(family_option_specs(kSeedOption), std::back_inserter(specs));
  specs.insert(specs.end(), {{"text", OptionSpec::Kind::kValues},
                             {"sequences"},
                             {"problems"},
                             {"family"},
                             {"k"},
                             {"template"},
                             {"extract"},
                             {"choices"},
                             {"output"},
                             {"json"},
                             {"accepted"},
                             {"accepted_per_problem"},
                             {"set", OptionSpec::Kind::kValues}});
  const ParsedOptions given(arguments, specs);
  if (given.positional().size() != 1) {
    throw ConfigError(
        concat("want one PATH, a checkpoint or a run folder; given ", given.positional().size()));
  }
  EvaluationRequest request;
  request.path = given.positional().front();
  request.overrides = given.values("set");
  request.texts = given.values("text");
  if (given.has("sequences")) {
    request.num_sequences = given.integer("sequences", 1, INT64_MAX);
  }
  if (given.has("template")) {
    request.prompt_template = parse_template(given.required("template"));
  }
  request.generation = read_generation_request(given);
  read_problems(given, request);
  request.choices_file = given.value("choices").value_or("");
  request.output = given.value("output").value_or("");
  request.json = given.value("json").value_or("");
  request.accepted = given.value("accepted").value_or("");
  if (given.has("accepted_per_problem")) {
    if (request.accepted.empty()) {
      throw ConfigError("--accepted_per_problem needs --accepted FILE");
    }
    request.accepted_per_problem = given.integer("accepted_per_problem", 1, INT64_MAX);
  }
  if (!request.accepted.empty() && !request.has_problems()) {
    throw ConfigError("--accepted needs --problems or --family: it is for their samples");
  }
  if (request.texts.empty() && !request.has_problems() && request.choices_file.empty()) {
    throw ConfigError("give something to evaluate on: --text, --problems, --family or --choices");
  }
  return request;
}

}  // namespace fathom::cli
