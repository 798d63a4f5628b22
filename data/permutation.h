#pragma once

#include <array>
#include <cstdint>

#include "core/rng.h"

namespace fathom::data {

// A random permutation of 0 .. size - 1 of which any entry is computed by itself, in O(1) and
// without a table: a Feistel network over pairs (index / b, index % b) with a * b just above size,
// entries beyond size walked on (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
// So is its inverse. Not for secrets.
class IndexPermutation {
 public:
  // `keys` says which of the permutations: the same for the same size and keys. 0 < size < 2^62.
  IndexPermutation(std::int64_t size, const RandomSource& keys);

  std::int64_t size() const noexcept { return static_cast<std::int64_t>(size_); }
  // Entry `index` of the permutation; 0 <= index < size.
  std::int64_t operator()(std::int64_t index) const noexcept;
  // The index whose entry that is.
  std::int64_t inverse(std::int64_t entry) const noexcept;

 private:
  static constexpr std::size_t kNumRounds = 8;

  std::uint64_t size_;
  std::uint64_t num_rows_ = 1;     // a
  std::uint64_t num_columns_ = 1;  // b
  std::array<std::uint64_t, kNumRounds> keys_{};
};

}  // namespace fathom::data
