#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/token_trie.h"

namespace fathom::data {

// A token outside byte-pair encoding, found in the text as a whole.
struct AddedToken {
  std::string text;
  std::int32_t id = 0;
  bool is_special = true;  // control token, not text
  // How it is found, as in the `tokenizers` package:
  bool single_word = false;       // only where no letter, digit or the like stands beside it
  bool takes_left_space = false;  // with the white space before it (lstrip)
  bool takes_right_space = false;
  bool is_normalized = false;  // in the text after the normalizer, as its own text after it

  friend bool operator==(const AddedToken&, const AddedToken&) = default;
};

// Finds added tokens in texts: from left to right, at each place the longest. Immutable: may be
// shared by threads.
class AddedTokenFinder {
 public:
  // A part of a text: an added token, or what lies between two.
  struct Section {
    std::string_view text;
    std::int32_t token = -1;  // -1: no token
  };

  // Texts must differ and not be empty.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  bool empty() const noexcept { return tokens_.empty(); }
  // The sections of `text` in order; none is empty.
  std::vector<Section> sections(std::string_view text) const;

 private:
  bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) const;

  std::vector<AddedToken> tokens_;
  TokenTrie trie_;  // gives places in tokens_
  std::array<bool, 256> first_bytes_{};
};

}  // namespace fathom::data
