#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace fathom::cli {

class Session;

// Where a run starts: from the newest published checkpoint of its folder if there is one, from
// nothing, or from one step.
struct Resume {
  enum class Kind { kAuto, kNone, kStep };
  Kind kind = Kind::kAuto;
  std::int64_t step = 0;  // of kStep
};

// The command line of a command that takes a config: fathom COMMAND CONFIG [--set ...] [--resume
// ...] [--dry_run].
struct Invocation {
  Session& session;
  std::string config;
  std::vector<std::string> overrides;
  Resume resume;
  bool dry_run = false;
};

// Throws ConfigError naming the option that is unknown, doubled or malformed.
Invocation parse_invocation(std::span<const std::string> arguments, Session& session);
Resume parse_resume(const std::string& text);

// Throws ConfigError, naming the option, where the folder of a file to write is not there: a wrong
// path shall not cost what is computed for it. Empty: no file.
void require_folder(const std::string& option, const std::filesystem::path& file);

// The options of one command: positional arguments and --name VALUE. A flag that is not given is
// absent.
struct OptionSpec {
  std::string name;
  enum class Kind { kValue, kValues, kFlag } kind = Kind::kValue;
};
class ParsedOptions {
 public:
  // Throws ConfigError for an unknown or repeated option and for a missing value. Names are never
  // abbreviated.
  ParsedOptions(std::span<const std::string> arguments, const std::vector<OptionSpec>& specs);

  const std::vector<std::string>& positional() const noexcept { return positional_; }
  bool has(const std::string& name) const;
  std::optional<std::string> value(const std::string& name) const;
  std::vector<std::string> values(const std::string& name) const;
  // Throws ConfigError unless the value is given and a whole number in [minimum, maximum].
  std::int64_t integer(const std::string& name, std::int64_t minimum, std::int64_t maximum) const;
  // Throws ConfigError unless the value is given and a number in [minimum, maximum].
  double number(const std::string& name, double minimum, double maximum) const;
  // Throws ConfigError when it is not given or empty.
  std::string required(const std::string& name) const;

 private:
  std::vector<std::string> positional_;
  std::vector<std::pair<std::string, std::vector<std::string>>> options_;
};

}  // namespace fathom::cli
