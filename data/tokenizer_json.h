#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/bpe_model.h"
#include "data/pretokenizer.h"

namespace fathom::data {

// A token outside byte-pair encoding, found in the text as a whole.
struct AddedToken {
  std::string text;
  std::int32_t id = 0;
  bool is_special = true;  // control token, not text
};

// What a tokenizer is, apart from any way to run it.
struct TokenizerDefinition {
  SplitPattern split = SplitPattern::kLlama3;
  std::vector<std::string>
      tokens;                    // [vocab_size]: the bytes of each id; for an added token its text
  std::vector<BpeMerge> merges;  // by rank
  std::vector<AddedToken> added_tokens;  // by id
};

// Hugging Face's tokenizer.json, byte-level BPE. Read and checked in full: split pattern known, ids
// dense and unique, all 256 bytes present, merges of known tokens. post_processor, truncation and
// padding are left aside. Throws ConfigError naming `origin` (the file) and what is wrong or not
// supported.
TokenizerDefinition parse_tokenizer_json(std::string_view content, const std::string& origin);

// The same bytes for the same definition. The `tokenizers` package reads it and encodes alike.
std::string write_tokenizer_json(const TokenizerDefinition& definition);

}  // namespace fathom::data
