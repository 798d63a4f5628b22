#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace fathom::data {

// What a JSON text from outside may hold at most.
struct JsonLimits {
  std::size_t bytes = std::size_t{64} << 20;
  std::size_t string_bytes = std::size_t{1} << 20;
  int depth = 64;
};

// The whole of `text` as one JSON value. Throws ConfigError naming `origin` for malformed text,
// invalid UTF-8, duplicate keys (which the library would drop in silence), and whatever goes beyond
// `limits`.
nlohmann::json parse_json(std::string_view text, const std::string& origin,
                          const JsonLimits& limits = {});

// The value on one line, for a file or another program. What is no UTF-8, as a text that ends
// within a character, becomes U+FFFD.
std::string json_line(const nlohmann::json& value);
std::string json_line(const nlohmann::ordered_json& value);

}  // namespace fathom::data
