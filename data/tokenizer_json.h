#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/added_token.h"
#include "data/bpe_model.h"
#include "data/normalizer.h"
#include "data/pretokenizer.h"

namespace fathom::data {

// What a tokenizer is, apart from any way to run it.
struct TokenizerDefinition {
  std::vector<NormalizationForm> normalizer;  // in order
  PretokenizerDefinition pretokenizer;
  // [vocab_size]: the bytes of each id; for an added token its text.
  std::vector<std::string> tokens;
  std::vector<BpeMerge> merges;          // by rank
  bool ignore_merges = false;            // a piece that is a token as a whole becomes it (Llama-3)
  std::vector<AddedToken> added_tokens;  // by id
};

// Hugging Face's tokenizer.json, byte-level BPE. Read and checked in full: normalizer and split
// supported, ids dense and unique, all 256 bytes present, merges of known tokens; no byte and no
// merge is an added token, which text must not become.
// post_processor, truncation and padding are left aside: an encoding has the text's tokens alone,
// and a begin of sentence comes from who makes sequences (packing, the chat template). unk_token,
// fuse_unk and byte_fallback never apply where every byte has a token. Throws ConfigError naming
// `origin` (the file) and what is wrong or not supported.
TokenizerDefinition parse_tokenizer_json(std::string_view content, const std::string& origin);

// [vocab_size]: whether an id is an added token's.
std::vector<bool> which_are_added(const TokenizerDefinition& definition);

// The same bytes for the same definition. The `tokenizers` package reads it and encodes alike.
std::string write_tokenizer_json(const TokenizerDefinition& definition);

}  // namespace fathom::data
