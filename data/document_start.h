#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"

namespace fathom::data {

// What a document begins with.
enum class DocumentStart {
  kPlain,
  kBos,  // the begin-of-sentence token first
};

// The token that stands before a document. Throws ConfigError where the tokenizer has none such.
std::optional<std::int32_t> token_before(const Tokenizer& tokenizer, DocumentStart start);

// The tokens of a text, added ones among them, with the start of a document before them, where they
// do not begin with it already. Throws as token_before().
std::vector<std::int32_t> encode_document(const Tokenizer& tokenizer, std::string_view text,
                                          DocumentStart start);

}  // namespace fathom::data
