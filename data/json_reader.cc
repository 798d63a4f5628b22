#include "data/json_reader.h"

#include <nlohmann/json.hpp>

namespace fathom::data {

using nlohmann::json;

const json& JsonReader::member(const json& object, const char* name) {
  static const json kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

std::string JsonReader::type_of(const json& component) {
  if (!component.is_object()) {
    return "";
  }
  const json& type = member(component, "type");
  return type.is_string() ? type.get<std::string>() : "";
}

bool JsonReader::flag(const json& object, const char* name, bool otherwise) const {
  const json& value = member(object, name);
  want(value.is_boolean() || value.is_null(), name, " must be true or false, not ", value.dump());
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

std::vector<json> JsonReader::sequence(const json& component, const char* name) const {
  if (type_of(component) != "Sequence") {
    return {component};
  }
  const json& list = member(component, name);
  want(list.is_array(), name, " must be a list");
  return {list.begin(), list.end()};
}

}  // namespace fathom::data
