#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/error.h"

namespace fathom::data {

// Reads the members of a JSON file that others wrote; errors name the file.
class JsonReader {
 public:
  // `origin` must outlive the reader.
  explicit JsonReader(const std::string& origin) : origin_(origin) {}

  // Throws ConfigError of the parts unless `condition` holds.
  template <class... Parts>
  void want(bool condition, const Parts&... parts) const {
    if (!condition) {
      throw ConfigError(concat(origin_, ": ", parts...));
    }
  }

  // A member of an object; null where it is absent.
  static const nlohmann::json& member(const nlohmann::json& object, const char* name);
  // Its member "type" if that is a text, else "".
  static std::string type_of(const nlohmann::json& component);
  // A member that is true or false; `otherwise` where it is absent or null. Throws ConfigError for
  // anything else.
  bool flag(const nlohmann::json& object, const char* name, bool otherwise) const;
  // The members of the list `name` of a component of type "Sequence"; of any other the component
  // itself. Throws ConfigError where the list is none.
  std::vector<nlohmann::json> sequence(const nlohmann::json& component, const char* name) const;

 private:
  const std::string& origin_;
};

}  // namespace fathom::data
