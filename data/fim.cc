#include "data/fim.h"

#include <algorithm>

namespace fathom::data {

void append_fim_pieces(std::int64_t num_tokens, const RandomSource& random, std::uint64_t index,
                       const SpecialTokenIds& special_tokens, std::vector<TokenPiece>& pieces) {
  const auto num_places = static_cast<std::uint64_t>(num_tokens) + 1;
  const auto one = static_cast<std::int64_t>(random.below(2 * index, num_places));
  const auto other = static_cast<std::int64_t>(random.below(2 * index + 1, num_places));
  const std::int64_t middle_begin = std::min(one, other);
  const std::int64_t middle_end = std::max(one, other);
  pieces.push_back({.added_token = special_tokens.fim_begin});
  pieces.push_back({.begin = 0, .size = middle_begin});
  pieces.push_back({.added_token = special_tokens.fim_hole});
  pieces.push_back({.begin = middle_end, .size = num_tokens - middle_end});
  pieces.push_back({.added_token = special_tokens.fim_end});
  pieces.push_back({.begin = middle_begin, .size = middle_end - middle_begin});
}

}  // namespace fathom::data
