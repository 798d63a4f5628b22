#include "data/json.h"

#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "tests/support/catch.h"

namespace fathom::data {
namespace {

TEST_CASE("JSON of ordinary shape is read") {
  const nlohmann::json value = parse_json(R"({"a": [1, {"b": "c"}], "b": {"a": null}})", "f.json");
  CHECK(value["a"][1]["b"] == "c");
}

TEST_CASE("JSON beyond the limits is refused") {
  const std::string deep(1'000'000, '[');
  CHECK_THROWS_AS(parse_json(deep, "f.json"), ConfigError);
  const std::string nested = std::string(65, '[') + std::string(65, ']');
  CHECK_THROWS_AS(parse_json(nested, "f.json"), ConfigError);
  CHECK_NOTHROW(parse_json(nested.substr(1, 128), "f.json"));
  CHECK_THROWS_AS(parse_json(R"({"a": 1, "b": 2, "a": 3})", "f.json"), ConfigError);
  CHECK_THROWS_AS(parse_json(R"("abcdef")", "f.json", {.string_bytes = 5}), ConfigError);
  CHECK_THROWS_AS(parse_json(R"("abcdef")", "f.json", {.bytes = 5}), ConfigError);
  CHECK_THROWS_AS(parse_json("\"\xff\"", "f.json"), ConfigError);
  CHECK_THROWS_AS(parse_json("{\"a\": 1} x", "f.json"), ConfigError);
  CHECK_THROWS_AS(parse_json("[NaN]", "f.json"), ConfigError);
}

TEST_CASE("JSON is written on one line, with U+FFFD for what is no UTF-8") {
  const nlohmann::ordered_json ordered = {{"b", "caf\xc3\xa9\n"}, {"a", "caf\xc3"}};
  CHECK(json_line(ordered) == "{\"b\":\"caf\xc3\xa9\\n\",\"a\":\"caf\xef\xbf\xbd\"}");
  CHECK(json_line(nlohmann::json("\xff")) == "\"\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace fathom::data
