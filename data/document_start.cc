#include "data/document_start.h"

#include "core/error.h"

namespace fathom::data {

std::optional<std::int32_t> token_before(const Tokenizer& tokenizer, DocumentStart start) {
  if (start == DocumentStart::kPlain) {
    return std::nullopt;
  }
  const std::int32_t bos = tokenizer.special_tokens().bos;
  if (bos < 0) {
    throw ConfigError(
        "data.document_start is BOS, but the tokenizer has no begin-of-sentence token");
  }
  return bos;
}

std::vector<std::int32_t> encode_document(const Tokenizer& tokenizer, std::string_view text,
                                          DocumentStart start) {
  std::vector<std::int32_t> tokens = tokenizer.encode(text);
  const std::optional<std::int32_t> first = token_before(tokenizer, start);
  if (first && (tokens.empty() || tokens.front() != *first)) {
    tokens.insert(tokens.begin(), *first);
  }
  return tokens;
}

}  // namespace fathom::data
