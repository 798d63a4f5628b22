#include "data/json.h"

#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

#include "core/error.h"

namespace fathom::data {
namespace {

using nlohmann::json;

// Called by the parser at each event; refuses what it would let through.
class Guard {
 public:
  Guard(const std::string& origin, const JsonLimits& limits) : origin_(origin), limits_(limits) {}

  bool operator()(int depth, json::parse_event_t event, const json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (depth >= limits_.depth) {
          throw ConfigError(concat(origin_, ": JSON nested deeper than ", limits_.depth));
        }
        keys_.emplace_back();
        break;
      case json::parse_event_t::object_end:
      case json::parse_event_t::array_end:
        keys_.pop_back();
        break;
      case json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        check_size(key);
        if (!keys_.back().insert(key).second) {
          throw ConfigError(concat(origin_, ": JSON key \"", key, "\" twice in one object"));
        }
        break;
      }
      case json::parse_event_t::value:
        if (parsed.is_string()) {
          check_size(parsed.get_ref<const std::string&>());
        }
        break;
    }
    return true;
  }

 private:
  void check_size(const std::string& text) const {
    if (text.size() > limits_.string_bytes) {
      throw ConfigError(concat(origin_, ": a JSON string of ", text.size(), " bytes, at most ",
                               limits_.string_bytes, " are allowed"));
    }
  }

  const std::string& origin_;
  const JsonLimits& limits_;
  std::vector<std::unordered_set<std::string>> keys_;
};

template <class Json>
std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

json parse_json(std::string_view text, const std::string& origin, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    throw ConfigError(concat(origin, ": ", text.size(), " bytes of JSON, at most ", limits.bytes,
                             " are allowed"));
  }
  Guard guard(origin, limits);
  const json::parser_callback_t callback = [&guard](int depth, json::parse_event_t event,
                                                    json& parsed) {
    return guard(depth, event, parsed);
  };
  try {
    return json::parse(text.begin(), text.end(), callback);
  } catch (const json::exception& error) {
    throw ConfigError(concat(origin, ": not valid JSON: ", error.what()));
  }
}

std::string json_line(const json& value) { return dump(value); }
std::string json_line(const nlohmann::ordered_json& value) { return dump(value); }

}  // namespace fathom::data
