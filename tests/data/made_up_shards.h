#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/rng.h"
#include "data/token_shard.h"

namespace fathom::test {

inline constexpr std::int32_t kFirstSpecial = 90;

// A vocabulary of 96 ids of which the last six are special; text token t stands for 1 + t % 3
// bytes.
inline data::Vocabulary made_up_vocabulary() {
  data::Vocabulary vocabulary{.vocab_size = 96,
                              .tokenizer_hash = "0123456789abcdef",
                              .special_tokens = {90, 91, 92, 93, 94, 95},
                              .text_bytes_per_token = {}};
  for (std::int32_t token = 0; token < vocabulary.vocab_size; ++token) {
    vocabulary.text_bytes_per_token.push_back(token < kFirstSpecial ? 1 + token % 3 : 0);
  }
  return vocabulary;
}

inline data::TokenShardContent shard_of(const std::vector<std::vector<std::int32_t>>& documents) {
  data::TokenShardContent content;
  content.vocabulary = made_up_vocabulary();
  for (const std::vector<std::int32_t>& document : documents) {
    content.tokens.insert(content.tokens.end(), document.begin(), document.end());
    content.document_offsets.push_back(static_cast<std::int64_t>(content.tokens.size()));
    std::int64_t bytes = 0;
    for (const std::int32_t token : document) {
      bytes += content.vocabulary.text_bytes_per_token[static_cast<std::size_t>(token)];
    }
    content.document_bytes.push_back(bytes);
  }
  return content;
}

// Documents of 0 to 12 tokens, drawn from the name.
inline std::vector<std::vector<std::int32_t>> made_up_documents(const std::string& name,
                                                                std::size_t count) {
  const RandomSource random(1, name);
  std::vector<std::vector<std::int32_t>> documents(count);
  std::uint64_t index = 0;
  for (auto& document : documents) {
    document.resize(random.below(index++, 13));
    for (std::int32_t& token : document) {
      token = static_cast<std::int32_t>(random.below(index++, kFirstSpecial));
    }
  }
  return documents;
}

inline std::filesystem::path write_shard(const std::filesystem::path& path,
                                         const std::vector<std::vector<std::int32_t>>& documents) {
  data::write_token_shard(path, shard_of(documents));
  return path;
}

}  // namespace fathom::test
