#include "configs/load.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>

#include "configs/field_path.h"
#include "configs/problems.h"
#include "core/error.h"
#include "core/file.h"

namespace fathom::config {
namespace {

namespace pb = google::protobuf;

constexpr std::uintmax_t kMaxFileBytes = 1'000'000;
constexpr int kRecursionLimit = 100;
constexpr std::string_view kModelFrom = "model_from";
constexpr std::string_view kChatFrom = "data.chat_from";

// The text between the n-th pair of double quotes, n from 0.
std::string quoted(std::string_view message, int n) {
  std::size_t begin = message.find('"');
  for (int i = 0; i < 2 * n && begin != std::string_view::npos; ++i) {
    begin = message.find('"', begin + 1);
  }
  const std::size_t end = begin == std::string_view::npos ? begin : message.find('"', begin + 1);
  return end == std::string_view::npos ? std::string()
                                       : std::string(message.substr(begin + 1, end - begin - 1));
}

// The enumeration of the first field called `name` in `message` or below it.
const pb::EnumDescriptor* find_enumeration(const pb::Descriptor& message, const std::string& name) {
  for (int i = 0; i < message.field_count(); ++i) {
    const pb::FieldDescriptor& field = *message.field(i);
    if (field.name() == name && field.enum_type() != nullptr) {
      return field.enum_type();
    }
    if (field.message_type() != nullptr) {
      if (const auto* found = find_enumeration(*field.message_type(), name)) {
        return found;
      }
    }
  }
  return nullptr;
}

// Rewrites what protobuf reports so that it names the nearest field or the values there are.
class FileProblems : public pb::io::ErrorCollector {
 public:
  FileProblems(const std::filesystem::path& path, const pb::Descriptor& root, Problems& problems)
      : path_(path.string()), root_(root), problems_(problems) {}

  void AddError(int line, int column, const std::string& message) override {
    problems_.add(path_, ':', line + 1, ':', column + 1, ": ", improved(message));
  }
  // The parser is told to go on after an unknown field, so that all of them are found; it then
  // calls them warnings.
  void AddWarning(int line, int column, const std::string& message) override {
    AddError(line, column, message);
  }

 private:
  std::string improved(const std::string& message) const {
    if (message.find("has no field named") != std::string::npos) {
      const std::string type = quoted(message, 0);
      const std::string field = quoted(message, 1);
      const pb::Descriptor* found = root_.file()->pool()->FindMessageTypeByName(type);
      if (found != nullptr) {
        return concat("no field \"", field, "\" in ", found->name(), suggest_field(*found, field));
      }
    }
    if (message.rfind("Unknown enumeration value", 0) == 0) {
      if (const auto* values = find_enumeration(root_, quoted(message, 1))) {
        return concat(quoted(message, 1), " has no value \"", quoted(message, 0), '"',
                      list_values(*values));
      }
    }
    return message;
  }

  std::string path_;
  const pb::Descriptor& root_;
  Problems& problems_;
};

std::optional<std::string> read_text(const std::filesystem::path& path, Problems& problems) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    problems.add(path.string(), ": no such file");
    return std::nullopt;
  }
  if (!std::filesystem::is_regular_file(status)) {
    problems.add(path.string(), ": not a regular file");
    return std::nullopt;
  }
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size > kMaxFileBytes) {
    problems.add(path.string(), ": ", size, " bytes, a config has at most ", kMaxFileBytes);
    return std::nullopt;
  }
  try {
    return read_file(path);
  } catch (const IoError& failure) {
    problems.add(failure.message());
    return std::nullopt;
  }
}

void parse_text(const std::string& text, const std::filesystem::path& path, pb::Message& message,
                Problems& problems) {
  FileProblems collector(path, *message.GetDescriptor(), problems);
  pb::TextFormat::Parser parser;
  parser.RecordErrorsTo(&collector);
  parser.AllowUnknownField(true);
  parser.SetRecursionLimit(kRecursionLimit);
  parser.ParseFromString(text, &message);  // a failure is in `problems`
}

void parse(const std::filesystem::path& path, pb::Message& message, Problems& problems) {
  if (const std::optional<std::string> text = read_text(path, problems)) {
    parse_text(*text, path, message, problems);
  }
}

bool names(std::string_view override_text, std::string_view field) {
  return override_text.substr(0, override_text.find('=')) == field;
}

// What the file at `path` says, below what `message` says.
void merge_below(const std::filesystem::path& path, pb::Message& message, Problems& problems) {
  const std::unique_ptr<pb::Message> below(message.New());
  parse(path, *below, problems);
  below->MergeFrom(message);
  message.CopyFrom(*below);
}

// The files that a config names.
void merge_files(const std::filesystem::path& config_path,
                 const std::vector<std::string>& overrides, RunConfig& config, Problems& problems) {
  // Relative to the config; one given as an override stays as it is.
  const auto path_of = [&](const std::string& named, std::string_view field) {
    const bool is_override =
        std::any_of(overrides.begin(), overrides.end(),
                    [field](const std::string& text) { return names(text, field); });
    return is_override ? std::filesystem::path(named)
                       : (config_path.parent_path() / named).lexically_normal();
  };
  if (config.has_model_from()) {
    merge_below(path_of(config.model_from(), kModelFrom), *config.mutable_model(), problems);
    config.clear_model_from();
  }
  if (config.data().has_chat_from()) {
    Data& data = *config.mutable_data();
    merge_below(path_of(data.chat_from(), kChatFrom), *data.mutable_chat(), problems);
    data.clear_chat_from();
  }
}

}  // namespace

RunConfig load(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  RunConfig config;
  Problems problems;
  parse(path, config, problems);
  const auto apply = [&](const std::string& text) {
    if (const auto problem = apply_override(config, text)) {
      problems.add(*problem);
    }
  };
  const auto names_file = [](const std::string& text) {
    return names(text, kModelFrom) || names(text, kChatFrom);
  };
  for (const std::string& text : overrides) {
    if (names_file(text)) {
      apply(text);
    }
  }
  merge_files(path, overrides, config, problems);
  for (const std::string& text : overrides) {
    if (!names_file(text)) {
      apply(text);
    }
  }
  problems.throw_if_any();
  return config;
}

RunConfig load_stored(const std::string& text, const std::string& origin,
                      const std::vector<std::string>& overrides) {
  RunConfig config;
  Problems problems;
  parse_text(text, origin, config, problems);
  config.clear_mesh();
  config.mutable_run()->clear_threads();
  for (const std::string& override_text : overrides) {
    if (const auto problem = apply_override(config, override_text)) {
      problems.add(*problem);
    }
  }
  problems.throw_if_any();
  return config;
}

Model load_model(const std::filesystem::path& path) {
  Model model;
  Problems problems;
  parse(path, model, problems);
  problems.throw_if_any();
  return model;
}

}  // namespace fathom::config
