#include "data/conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/error.h"
#include "data/json.h"

namespace fathom::data {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxLineBytes = std::int64_t{64} << 20;

std::filesystem::path checked(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) {
    throw IoError(concat("cannot read ", file.string(), ": ",
                         error ? error.message()
                               : std::string("not a regular file; want a file of conversations, "
                                             "one JSON object a line")),
                  error.value());
  }
  return file;
}

// One line; `where` is file:line.
class LineParser {
 public:
  explicit LineParser(std::string where) : where_(std::move(where)) {}

  Conversation parse(std::string_view line) const {
    const json value = parse_json(
        line, where_,
        {.bytes = kMaxLineBytes, .string_bytes = kMaxLineBytes, .depth = JsonLimits{}.depth});
    require(value.is_object(), concat("want a JSON object, not ", value.type_name()));
    const bool has_messages = value.contains("messages");
    const bool is_pair = value.contains("prompt") || value.contains("completion");
    require(has_messages || is_pair,
            "want a field \"messages\", or \"prompt\" and \"completion\"; there is neither");
    require(!(has_messages && is_pair),
            "has both \"messages\" and \"prompt\" or \"completion\": leave out one of them");
    if (is_pair) {
      return {{Role::kUser, text(value, "prompt", "")},
              {Role::kAssistant, text(value, "completion", "")}};
    }
    return messages(value.at("messages"));
  }

 private:
  void require(bool holds, const std::string& problem) const {
    if (!holds) {
      throw ConfigError(concat(where_, ": ", problem));
    }
  }

  std::string text(const json& object, const char* field, const std::string& prefix) const {
    require(object.contains(field), concat("no field \"", prefix, field, "\""));
    const json& value = object.at(field);
    require(value.is_string(),
            concat("field \"", prefix, field, "\" is ", value.type_name(), ", want a string"));
    return value.get<std::string>();
  }

  Role role(const std::string& name, std::size_t index) const {
    if (name == "system") {
      require(index == 0, concat("messages[", index, "] is of the system: only the first may be"));
      return Role::kSystem;
    }
    require(name == "user" || name == "assistant",
            concat("messages[", index, "].role is \"", name, "\", want system, user or assistant"));
    return name == "user" ? Role::kUser : Role::kAssistant;
  }

  Conversation messages(const json& list) const {
    require(list.is_array(), concat("field \"messages\" is ", list.type_name(), ", want an array"));
    require(!list.empty(), "field \"messages\" is empty");
    Conversation conversation;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string name = concat("messages[", i, ']');
      require(list[i].is_object(),
              concat(name, " is ", list[i].type_name(), ", want an object with role and content"));
      conversation.push_back(
          {role(text(list[i], "role", name + "."), i), text(list[i], "content", name + ".")});
    }
    require(std::any_of(conversation.begin(), conversation.end(),
                        [](const Message& message) { return message.role == Role::kAssistant; }),
            concat("none of its ", conversation.size(),
                   " messages is of the assistant: there is nothing to learn from"));
    return conversation;
  }

  std::string where_;
};

}  // namespace

ConversationReader::ConversationReader(const std::filesystem::path& file)
    : file_(file), reader_(checked(file), 0, kMaxLineBytes) {}

bool ConversationReader::next(Conversation& conversation) {
  while (reader_.next(line_)) {
    ++line_number_;
    const std::string where = concat(file_.string(), ':', line_number_);
    if (line_.back() != '\n' && static_cast<std::int64_t>(line_.size()) + 4 > kMaxLineBytes) {
      throw ConfigError(concat(where, ": a line longer than ", kMaxLineBytes, " bytes"));
    }
    if (line_.find_first_not_of(" \t\r\n") != std::string::npos) {
      conversation = LineParser(where).parse(line_);
      return true;
    }
  }
  return false;
}

}  // namespace fathom::data
