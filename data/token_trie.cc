#include "data/token_trie.h"

namespace fathom::data {

void TokenTrie::add(std::string_view text, std::int32_t token) {
  std::int32_t node = 0;
  for (const char byte : text) {
    std::int32_t& child = children_[pair_key(node, static_cast<std::uint8_t>(byte))];
    if (child == 0) {
      child = static_cast<std::int32_t>(token_of_node_.size());
      token_of_node_.push_back(-1);
    }
    node = child;
  }
  token_of_node_[static_cast<std::size_t>(node)] = token;
}

TokenTrie::Match TokenTrie::longest_match(std::string_view text,
                                          std::size_t position) const noexcept {
  Match match;
  std::int32_t node = 0;
  for (std::size_t i = position; i < text.size(); ++i) {
    const std::int32_t* child = children_.find(pair_key(node, static_cast<std::uint8_t>(text[i])));
    if (child == nullptr) {
      break;
    }
    node = *child;
    if (token_of_node_[static_cast<std::size_t>(node)] >= 0) {
      match = {i + 1 - position, token_of_node_[static_cast<std::size_t>(node)]};
    }
  }
  return match;
}

}  // namespace fathom::data
