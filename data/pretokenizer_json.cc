#include "data/pretokenizer_json.h"

#include <nlohmann/json.hpp>

#include "data/json_reader.h"

namespace fathom::data {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::size_t kMaxSteps = 16;

SplitStep parse_split(const json& component, const JsonReader& reader) {
  const json& pattern = JsonReader::member(component, "pattern");
  reader.want(pattern.is_object() && JsonReader::member(pattern, "Regex").is_string(),
              "pre_tokenizer Split must have a Regex pattern");
  const json& behavior = JsonReader::member(component, "behavior");
  reader.want(behavior == "Isolated" || behavior == "Removed", "pre_tokenizer Split with behavior ",
              behavior.dump(), " is not supported: Isolated and Removed are");
  const bool keeps_matches = reader.flag(component, "invert", false);
  SplitStep split{.regex = JsonReader::member(pattern, "Regex").get<std::string>()};
  if (behavior == "Removed") {
    split.keeps = keeps_matches ? SplitStep::Keeps::kMatches : SplitStep::Keeps::kRest;
  }
  return split;
}

std::string_view behavior_of(SplitStep::Keeps keeps) {
  return keeps == SplitStep::Keeps::kAll ? "Isolated" : "Removed";
}

}  // namespace

PretokenizerDefinition parse_pretokenizer(const json& component, const std::string& origin) {
  const JsonReader reader(origin);
  const std::vector<json> steps = reader.sequence(component, "pretokenizers");
  reader.want(!steps.empty() && JsonReader::type_of(steps.back()) == "ByteLevel",
              "the last pre_tokenizer must be ByteLevel");
  reader.want(steps.size() <= kMaxSteps, "pre_tokenizer has ", steps.size(), " steps, at most ",
              kMaxSteps, " are allowed");
  PretokenizerDefinition definition;
  definition.adds_prefix_space = reader.flag(steps.back(), "add_prefix_space", true);
  definition.splits_as_gpt2 = reader.flag(steps.back(), "use_regex", true);
  for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
    const std::string type = JsonReader::type_of(steps[i]);
    if (type == "Split") {
      definition.splits.push_back(parse_split(steps[i], reader));
    } else if (type == "Digits") {
      const bool is_single = reader.flag(steps[i], "individual_digits", false);
      definition.splits.push_back({.regex = is_single ? "\\p{N}" : "\\p{N}+"});
    } else {
      reader.want(false, "pre_tokenizer ", type,
                  " before the last is not supported: Split and Digits are");
    }
  }
  return definition;
}

ordered_json pretokenizer_json(const PretokenizerDefinition& definition) {
  ordered_json steps = ordered_json::array();
  for (const SplitStep& split : definition.splits) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", split.regex}}},
                     {"behavior", behavior_of(split.keeps)},
                     {"invert", split.keeps == SplitStep::Keeps::kMatches}});
  }
  steps.push_back({{"type", "ByteLevel"},
                   {"add_prefix_space", definition.adds_prefix_space},
                   {"trim_offsets", true},
                   {"use_regex", definition.splits_as_gpt2}});
  if (definition.splits.empty()) {
    return steps[0];
  }
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

}  // namespace fathom::data
