#include "configs/field_path.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "core/error.h"

namespace fathom::config {
namespace {

namespace pb = google::protobuf;

constexpr int kRecursionLimit = 100;
constexpr std::size_t kMaxAssignment = 1 << 16;  // bytes

// Levenshtein distance.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

class FirstError : public pb::io::ErrorCollector {
 public:
  void AddError(int /*line*/, int /*column*/, const std::string& message) override {
    if (message_.empty()) {
      message_ = message;
    }
  }
  const std::string& message() const { return message_; }

 private:
  std::string message_;
};

struct Segment {
  std::string name;
  std::optional<int> index;
};

// "data.train[0].path" -> {data}, {train, 0}, {path}; nothing when it is not a path.
std::optional<std::vector<Segment>> parse_path(std::string_view path) {
  std::vector<Segment> segments;
  while (true) {
    const std::size_t dot = path.find('.');
    std::string_view part = path.substr(0, dot);
    Segment segment;
    if (const std::size_t bracket = part.find('['); bracket != std::string_view::npos) {
      int index = 0;
      const char* begin = part.data() + bracket + 1;
      const char* end = part.data() + part.size() - 1;
      const auto [stop, error] = std::from_chars(begin, std::max(begin, end), index);
      if (part.back() != ']' || error != std::errc() || stop != end || index < 0) {
        return std::nullopt;
      }
      segment.index = index;
      part = part.substr(0, bracket);
    }
    if (part.empty()) {
      return std::nullopt;
    }
    segment.name = part;
    segments.push_back(std::move(segment));
    if (dot == std::string_view::npos) {
      return segments;
    }
    path.remove_prefix(dot + 1);
  }
}

bool is_message(const pb::FieldDescriptor& field) {
  return field.cpp_type() == pb::FieldDescriptor::CPPTYPE_MESSAGE;
}

std::string unquoted(const std::string& message) {
  return message.empty() ? "there is text after the value" : message;
}

// The text form of `value`: strings given bare are quoted.
std::string text_value(const pb::FieldDescriptor& field, std::string_view value) {
  const bool bare = field.cpp_type() == pb::FieldDescriptor::CPPTYPE_STRING &&
                    !(value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
                      value.back() == value.front());
  if (!bare) {
    return std::string(value);
  }
  std::string escaped;
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      escaped += '\\';
    }
    escaped += c == '\n' ? "\\n" : std::string(1, c);
  }
  return concat('"', escaped, '"');
}

// Reads `value` into the field of the otherwise empty message `holder`; appends when the field is
// repeated.
std::optional<std::string> read_value(const pb::FieldDescriptor& field, std::string_view value,
                                      pb::Message& holder) {
  if (field.cpp_type() == pb::FieldDescriptor::CPPTYPE_ENUM &&
      field.enum_type()->FindValueByName(std::string(value)) == nullptr) {
    return concat("no value \"", value, '"', list_values(*field.enum_type()));
  }
  if (is_message(field) && (value.empty() || value.front() != '{')) {
    return concat("is a message: set one of its fields, or give it as {...}");
  }
  pb::TextFormat::Parser parser;
  FirstError error;
  parser.RecordErrorsTo(&error);
  parser.SetRecursionLimit(kRecursionLimit);
  if (!parser.ParseFieldValueFromString(text_value(field, value), &field, &holder)) {
    return unquoted(error.message());
  }
  return std::nullopt;
}

std::optional<std::string> replace_list(pb::Message& message, const pb::FieldDescriptor& field,
                                        std::string_view value) {
  const std::unique_ptr<pb::Message> holder(message.New());
  pb::TextFormat::Parser parser;
  FirstError error;
  parser.RecordErrorsTo(&error);
  parser.SetRecursionLimit(kRecursionLimit);
  if (!parser.ParseFromString(concat(field.name(), ": ", value), holder.get())) {
    return unquoted(error.message());
  }
  std::vector<const pb::FieldDescriptor*> present;
  holder->GetReflection()->ListFields(*holder, &present);
  if (present.size() > 1 || (present.size() == 1 && present.front() != &field)) {
    return "there is text after the value";
  }
  message.GetReflection()->ClearField(&message, &field);
  message.GetReflection()->SwapFields(&message, holder.get(), {&field});
  return std::nullopt;
}

// The last step: `field` of `message` is what is assigned to.
std::optional<std::string> assign(pb::Message& message, const pb::FieldDescriptor& field,
                                  std::optional<int> index, std::string_view value) {
  const pb::Reflection& reflection = *message.GetReflection();
  if (field.is_repeated() && !index && !value.empty() && value.front() == '[') {
    return replace_list(message, field, value);
  }
  if (field.is_repeated() && !index && value.empty()) {
    reflection.ClearField(&message, &field);
    return std::nullopt;
  }
  const std::unique_ptr<pb::Message> holder(message.New());
  if (auto problem = read_value(field, value, *holder)) {
    return problem;
  }
  if (!field.is_repeated()) {
    reflection.SwapFields(&message, holder.get(), {&field});
    return std::nullopt;
  }
  message.MergeFrom(*holder);
  const int last = reflection.FieldSize(message, &field) - 1;
  if (index && *index < last) {
    reflection.SwapElements(&message, &field, *index, last);
    reflection.RemoveLast(&message, &field);
  }
  return std::nullopt;
}

// The message that `segment` names inside `message`; appends the element one past the last.
pb::Message* descend(pb::Message& message, const pb::FieldDescriptor& field,
                     std::optional<int> index) {
  const pb::Reflection& reflection = *message.GetReflection();
  if (!field.is_repeated()) {
    return reflection.MutableMessage(&message, &field);
  }
  return *index == reflection.FieldSize(message, &field)
             ? reflection.AddMessage(&message, &field)
             : reflection.MutableRepeatedMessage(&message, &field, *index);
}

std::optional<std::string> check_index(const pb::Message& message, const pb::FieldDescriptor& field,
                                       const Segment& segment, bool is_last) {
  if (!field.is_repeated()) {
    return segment.index ? std::optional(concat("\"", segment.name, "\" is not a list"))
                         : std::nullopt;
  }
  const int size = message.GetReflection()->FieldSize(message, &field);
  if (segment.index && *segment.index > size) {
    return concat("\"", segment.name, "\" has ", size, " elements, no [", *segment.index, ']');
  }
  if (!segment.index && !is_last) {
    return concat("\"", segment.name, "\" is a list: write ", segment.name, "[0]");
  }
  return std::nullopt;
}

std::optional<std::string> apply(pb::Message& config, const std::vector<Segment>& segments,
                                 std::string_view value) {
  pb::Message* message = &config;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const bool is_last = i + 1 == segments.size();
    const pb::Descriptor& type = *message->GetDescriptor();
    const pb::FieldDescriptor* field = type.FindFieldByName(segment.name);
    if (field == nullptr) {
      return concat("no field \"", segment.name, "\" in ", type.name(),
                    suggest_field(type, segment.name));
    }
    if (auto problem = check_index(*message, *field, segment, is_last)) {
      return problem;
    }
    if (is_last) {
      return assign(*message, *field, segment.index, value);
    }
    if (!is_message(*field)) {
      return concat("\"", segment.name, "\" has no fields");
    }
    message = descend(*message, *field, segment.index);
  }
  return std::nullopt;
}

}  // namespace

std::string suggest_field(const pb::Descriptor& message, std::string_view name) {
  std::string nearest;
  std::string all;
  std::size_t distance = std::max<std::size_t>(2, name.size() / 3) + 1;
  for (int i = 0; i < message.field_count(); ++i) {
    const std::string& field = message.field(i)->name();
    all += concat(i == 0 ? "" : ", ", field);
    if (const std::size_t d = edit_distance(name, field); d < distance) {
      distance = d;
      nearest = field;
    }
  }
  return nearest.empty() ? concat("; it has ", all) : concat("; did you mean \"", nearest, "\"?");
}

std::string list_values(const pb::EnumDescriptor& enumeration) {
  std::string all;
  for (int i = 0; i < enumeration.value_count(); ++i) {
    all += concat(i == 0 ? "; one of " : ", ", enumeration.value(i)->name());
  }
  return all;
}

std::optional<std::string> apply_override(pb::Message& config, std::string_view assignment) {
  const std::string shown =
      concat("--set ", assignment.substr(0, 200), assignment.size() > 200 ? "..." : "", ": ");
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos) {
    return concat(shown, "want path=value");
  }
  if (assignment.size() > kMaxAssignment) {
    return concat(shown, "longer than ", kMaxAssignment, " bytes");
  }
  const auto segments = parse_path(assignment.substr(0, equals));
  if (!segments) {
    return concat(shown, "\"", assignment.substr(0, equals), "\" is not a field path");
  }
  // A copy, so that a failed override leaves nothing half set.
  const std::unique_ptr<pb::Message> changed(config.New());
  changed->CopyFrom(config);
  if (auto problem = apply(*changed, *segments, assignment.substr(equals + 1))) {
    return concat(shown, *problem);
  }
  config.GetReflection()->Swap(&config, changed.get());
  return std::nullopt;
}

}  // namespace fathom::config
