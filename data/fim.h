#pragma once

#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "data/tokenizer.h"

namespace fathom::data {

// A part of what a document becomes in the stream: a run of its own tokens, or one token that
// packing adds.
struct TokenPiece {
  std::int32_t added_token = -1;  // -1: tokens begin .. begin + size - 1 of the document
  std::int64_t begin = 0;
  std::int64_t size = 1;
};

// Fill-in-the-middle (Bavarian et al., arXiv:2207.14255), prefix-suffix-middle as DeepSeek-V3
// (arXiv:2412.19437, 4.1):
//   fim_begin  document[0, a)  fim_hole  document[b, n)  fim_end  document[a, b)
// with a <= b two uniform cuts between the tokens of the document, drawn from (random, index).
// Cutting at tokens, not at characters, spares encoding anew and makes every rearranged document
// longer by exactly kFimTokens.
inline constexpr std::int64_t kFimTokens = 3;
void append_fim_pieces(std::int64_t num_tokens, const RandomSource& random, std::uint64_t index,
                       const SpecialTokenIds& special_tokens, std::vector<TokenPiece>& pieces);

}  // namespace fathom::data
