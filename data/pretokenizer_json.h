#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "data/pretokenizer.h"

namespace fathom::data {

// The member pre_tokenizer of a tokenizer.json: any number of Split (behaviors Isolated and
// Removed) and Digits, and ByteLevel as the last. Throws ConfigError naming `origin` (the file) and
// what is wrong or not supported.
PretokenizerDefinition parse_pretokenizer(const nlohmann::json& component,
                                          const std::string& origin);

nlohmann::ordered_json pretokenizer_json(const PretokenizerDefinition& definition);

}  // namespace fathom::data
