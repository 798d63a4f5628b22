#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/pair_table.h"

namespace fathom::data {

// Finds the longest of a set of strings at a place in a text. Time per place is at most the length
// of the longest string.
class TokenTrie {
 public:
  struct Match {
    std::size_t size = 0;  // bytes; 0: none
    std::int32_t token = -1;
  };

  // `text` must not be empty.
  void add(std::string_view text, std::int32_t token);
  bool empty() const noexcept { return token_of_node_.size() == 1; }
  Match longest_match(std::string_view text, std::size_t position) const noexcept;

 private:
  PairTable<std::int32_t> children_;                // (node, byte) -> node
  std::vector<std::int32_t> token_of_node_ = {-1};  // -1: no string ends here
};

}  // namespace fathom::data
