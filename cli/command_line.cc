#include "cli/command_line.h"

#include <algorithm>
#include <boost/program_options.hpp>
#include <charconv>

#include "core/error.h"

namespace fathom::cli {
namespace {

namespace po = boost::program_options;

std::int64_t parse_integer(const std::string& what, const std::string& text, std::int64_t minimum,
                           std::int64_t maximum) {
  std::int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size() || value < minimum ||
      value > maximum) {
    throw ConfigError(
        concat(what, ' ', text, ": want a whole number in [", minimum, ", ", maximum, ']'));
  }
  return value;
}

}  // namespace

void require_folder(const std::string& option, const std::filesystem::path& file) {
  if (!file.empty() && file.has_parent_path() &&
      !std::filesystem::is_directory(file.parent_path())) {
    throw ConfigError(
        concat(option, ' ', file.string(), ": there is no folder ", file.parent_path().string()));
  }
}

ParsedOptions::ParsedOptions(std::span<const std::string> arguments,
                             const std::vector<OptionSpec>& specs) {
  constexpr const char* kPositional = "argument";
  po::options_description description;
  for (const OptionSpec& spec : specs) {
    switch (spec.kind) {
      case OptionSpec::Kind::kFlag:
        description.add_options()(spec.name.c_str(), "");
        break;
      case OptionSpec::Kind::kValue:
        description.add_options()(spec.name.c_str(), po::value<std::string>(), "");
        break;
      case OptionSpec::Kind::kValues:
        description.add_options()(spec.name.c_str(),
                                  po::value<std::vector<std::string>>()->composing(), "");
        break;
    }
  }
  description.add_options()(kPositional, po::value<std::vector<std::string>>(), "");
  po::positional_options_description positional;
  positional.add(kPositional, -1);
  try {
    po::variables_map map;
    const auto style = po::command_line_style::unix_style &
                       ~po::command_line_style::allow_guessing &
                       ~po::command_line_style::allow_short;
    po::store(po::command_line_parser({arguments.begin(), arguments.end()})
                  .options(description)
                  .positional(positional)
                  .style(style)
                  .run(),
              map);
    for (const OptionSpec& spec : specs) {
      if (map.count(spec.name) == 0) {
        continue;
      }
      const po::variable_value& value = map[spec.name];
      std::vector<std::string> texts;
      if (spec.kind == OptionSpec::Kind::kValue) {
        texts = {value.as<std::string>()};
      } else if (spec.kind == OptionSpec::Kind::kValues) {
        texts = value.as<std::vector<std::string>>();
      }
      options_.emplace_back(spec.name, std::move(texts));
    }
    if (map.count(kPositional) > 0) {
      positional_ = map[kPositional].as<std::vector<std::string>>();
    }
  } catch (const po::error& error) {
    throw ConfigError(error.what());
  }
}

bool ParsedOptions::has(const std::string& name) const {
  return std::any_of(options_.begin(), options_.end(),
                     [&](const auto& option) { return option.first == name; });
}

std::vector<std::string> ParsedOptions::values(const std::string& name) const {
  for (const auto& [key, texts] : options_) {
    if (key == name) {
      return texts;
    }
  }
  return {};
}

std::optional<std::string> ParsedOptions::value(const std::string& name) const {
  const std::vector<std::string> texts = values(name);
  return texts.empty() ? std::nullopt : std::optional(texts.front());
}

std::int64_t ParsedOptions::integer(const std::string& name, std::int64_t minimum,
                                    std::int64_t maximum) const {
  return parse_integer("--" + name, required(name), minimum, maximum);
}

double ParsedOptions::number(const std::string& name, double minimum, double maximum) const {
  const std::string text = required(name);
  double value = 0.0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size() || !(value >= minimum) ||
      !(value <= maximum)) {
    throw ConfigError(
        concat("--", name, ' ', text, ": want a number in [", minimum, ", ", maximum, ']'));
  }
  return value;
}

std::string ParsedOptions::required(const std::string& name) const {
  const std::optional<std::string> text = value(name);
  if (!text || text->empty()) {
    throw ConfigError(concat("--", name, " is not given"));
  }
  return *text;
}

Resume parse_resume(const std::string& text) {
  if (text == "auto") {
    return {Resume::Kind::kAuto, 0};
  }
  if (text == "none") {
    return {Resume::Kind::kNone, 0};
  }
  std::int64_t step = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), step);
  if (error != std::errc() || stop != text.data() + text.size() || step < 0) {
    throw ConfigError(concat("--resume ", text, ": want auto, none or a step"));
  }
  return {Resume::Kind::kStep, step};
}

Invocation parse_invocation(std::span<const std::string> arguments, Session& session) {
  using Kind = OptionSpec::Kind;
  const ParsedOptions options(
      arguments, {{"set", Kind::kValues}, {"resume", Kind::kValue}, {"dry_run", Kind::kFlag}});
  if (options.positional().size() != 1) {
    std::string given;
    for (const std::string& argument : options.positional()) {
      given += concat(given.empty() ? ": " : ", ", argument);
    }
    throw ConfigError(concat("want one CONFIG file, given ", options.positional().size(), given));
  }
  return {.session = session,
          .config = options.positional().front(),
          .overrides = options.values("set"),
          .resume = parse_resume(options.value("resume").value_or("auto")),
          .dry_run = options.has("dry_run")};
}

}  // namespace fathom::cli
