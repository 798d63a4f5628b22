#include "data/bpe_model.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"

namespace fathom::data {
namespace {

constexpr std::int32_t kNoMerge = std::numeric_limits<std::int32_t>::max();
constexpr std::int32_t kNone = -1;
// Up to here scanning all ranks for each merge beats a heap.
constexpr std::size_t kShortPieceBytes = 128;

// For a heap whose top is the smallest rank, the leftmost among equals.
bool comes_later(const BpeModel::Scratch::Candidate& a,
                 const BpeModel::Scratch::Candidate& b) noexcept {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

BpeModel::BpeModel(const std::vector<BpeMerge>& merges,
                   const std::array<std::int32_t, 256>& byte_tokens, WholePieces whole_pieces)
    : merges_(merges.size()), byte_tokens_(byte_tokens), whole_pieces_(std::move(whole_pieces)) {
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const BpeMerge& merge = merges[rank];
    merges_[pair_key(merge.left, merge.right)] = {static_cast<std::int32_t>(rank), merge.result};
  }
}

std::int32_t BpeModel::rank_of(std::int32_t left, std::int32_t right) const noexcept {
  const Merged* merged = merges_.find(pair_key(left, right));
  return merged == nullptr ? kNoMerge : merged->rank;
}

void BpeModel::encode_piece(std::string_view piece, Scratch& scratch,
                            std::vector<std::int32_t>& out) const {
  if (piece.size() >= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    throw ConfigError(
        concat("a text has ", piece.size(), " bytes in one word; want less than 2^31"));
  }
  if (!whole_pieces_.empty()) {
    const auto whole = whole_pieces_.find(piece);
    if (whole != whole_pieces_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  if (piece.size() == 1) {
    out.push_back(byte_tokens_[static_cast<std::uint8_t>(piece[0])]);
  } else if (piece.size() <= kShortPieceBytes) {
    encode_short(piece, scratch, out);
  } else {
    encode_long(piece, scratch, out);
  }
}

void BpeModel::encode_short(std::string_view piece, Scratch& scratch,
                            std::vector<std::int32_t>& out) const {
  std::vector<std::int32_t>& tokens = scratch.tokens;
  std::vector<std::int32_t>& ranks = scratch.ranks;  // ranks[i]: of the pair (i, i + 1)
  tokens.clear();
  for (const char byte : piece) {
    tokens.push_back(byte_tokens_[static_cast<std::uint8_t>(byte)]);
  }
  ranks.clear();
  for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
    ranks.push_back(rank_of(tokens[i], tokens[i + 1]));
  }
  while (!ranks.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (*best == kNoMerge) {
      break;
    }
    const auto i = static_cast<std::size_t>(best - ranks.begin());
    tokens[i] = merges_.find(pair_key(tokens[i], tokens[i + 1]))->token;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    ranks.erase(best);
    if (i > 0) {
      ranks[i - 1] = rank_of(tokens[i - 1], tokens[i]);
    }
    if (i < ranks.size()) {
      ranks[i] = rank_of(tokens[i], tokens[i + 1]);
    }
  }
  out.insert(out.end(), tokens.begin(), tokens.end());
}

void BpeModel::push_candidate(Scratch& scratch, std::int32_t position) const {
  const Scratch::Symbol& left = scratch.symbols[static_cast<std::size_t>(position)];
  if (left.next == kNone) {
    return;
  }
  const std::int32_t right = scratch.symbols[static_cast<std::size_t>(left.next)].token;
  const std::int32_t rank = rank_of(left.token, right);
  if (rank != kNoMerge) {
    scratch.heap.push_back({rank, position, pair_key(left.token, right)});
  }
}

void BpeModel::encode_long(std::string_view piece, Scratch& scratch,
                           std::vector<std::int32_t>& out) const {
  std::vector<Scratch::Symbol>& symbols = scratch.symbols;
  std::vector<Scratch::Candidate>& heap = scratch.heap;
  const auto size = static_cast<std::int32_t>(piece.size());
  symbols.clear();
  for (std::int32_t i = 0; i < size; ++i) {
    const auto byte = static_cast<std::uint8_t>(piece[static_cast<std::size_t>(i)]);
    symbols.push_back({byte_tokens_[byte], i - 1, i + 1 < size ? i + 1 : kNone});
  }
  heap.clear();
  for (std::int32_t i = 0; i < size; ++i) {
    push_candidate(scratch, i);
  }
  std::make_heap(heap.begin(), heap.end(), comes_later);
  const auto push = [&](std::int32_t position) {
    const std::size_t old_size = heap.size();
    push_candidate(scratch, position);
    if (heap.size() > old_size) {
      std::push_heap(heap.begin(), heap.end(), comes_later);
    }
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), comes_later);
    const Scratch::Candidate candidate = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[static_cast<std::size_t>(candidate.position)];
    if (left.token == kNone || left.next == kNone) {
      continue;
    }
    Scratch::Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    // An earlier merge took one of the two: this candidate is no longer there.
    if (pair_key(left.token, right.token) != candidate.pair) {
      continue;
    }
    left.token = merges_.find(candidate.pair)->token;
    right.token = kNone;
    left.next = right.next;
    if (left.next != kNone) {
      symbols[static_cast<std::size_t>(left.next)].previous = candidate.position;
    }
    if (left.previous != kNone) {
      push(left.previous);
    }
    push(candidate.position);
  }
  for (std::int32_t i = 0; i != kNone; i = symbols[static_cast<std::size_t>(i)].next) {
    out.push_back(symbols[static_cast<std::size_t>(i)].token);
  }
}

}  // namespace fathom::data
