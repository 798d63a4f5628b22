#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/checksum.h"
#include "data/pair_table.h"

namespace fathom::data {

// Tokens `left` and `right`, side by side, become `result`.
struct BpeMerge {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t result = 0;
};

// Byte-level byte-pair encoding (Sennrich et al., arXiv:1508.07909): a piece starts as its bytes;
// as long as two neighbours can merge, those of the smallest rank do, the leftmost first.
// Immutable: may be shared by threads.
class BpeModel {
 public:
  // What encode_piece() works in; one per thread, kept to spare allocations.
  struct Scratch {
    struct Symbol {
      std::int32_t token;
      std::int32_t previous;
      std::int32_t next;
    };
    struct Candidate {
      std::int32_t rank;
      std::int32_t position;
      std::uint64_t pair;
    };
    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> ranks;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Tokens by their bytes.
  using WholePieces = std::unordered_map<std::string, std::int32_t, ChecksumHash, std::equal_to<>>;

  // A merge's rank is its place in `merges`. byte_tokens[b]: the token of byte b alone. A piece in
  // `whole_pieces` becomes that token, whatever merges would make of it.
  BpeModel(const std::vector<BpeMerge>& merges, const std::array<std::int32_t, 256>& byte_tokens,
           WholePieces whole_pieces = {});

  // Appends the tokens of `piece` to `out`. O(n^2) up to a fixed small size, O(n log n) beyond.
  // Throws ConfigError for a piece of 2^31 bytes or more.
  void encode_piece(std::string_view piece, Scratch& scratch, std::vector<std::int32_t>& out) const;

 private:
  struct Merged {
    std::int32_t rank = 0;
    std::int32_t token = 0;
  };

  void encode_short(std::string_view piece, Scratch& scratch, std::vector<std::int32_t>& out) const;
  void encode_long(std::string_view piece, Scratch& scratch, std::vector<std::int32_t>& out) const;
  std::int32_t rank_of(std::int32_t left, std::int32_t right) const noexcept;
  void push_candidate(Scratch& scratch, std::int32_t position) const;

  PairTable<Merged> merges_;
  std::array<std::int32_t, 256> byte_tokens_;
  WholePieces whole_pieces_;
};

}  // namespace fathom::data
