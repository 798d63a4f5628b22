#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/hexadecimal.h"
#include "data/checksum.h"

namespace fathom::data {
namespace {

std::array<std::int32_t, 256> byte_tokens_of(const TokenizerDefinition& definition) {
  const std::vector<bool> is_added = which_are_added(definition);
  std::array<std::int32_t, 256> byte_tokens{};
  for (std::size_t id = 0; id < definition.tokens.size(); ++id) {
    const std::string& token = definition.tokens[id];
    if (token.size() == 1 && !is_added[id]) {
      byte_tokens[static_cast<std::uint8_t>(token[0])] = static_cast<std::int32_t>(id);
    }
  }
  return byte_tokens;
}

// Without added tokens: no text may become one where they are taken as text.
BpeModel::WholePieces whole_pieces_of(const TokenizerDefinition& definition) {
  BpeModel::WholePieces pieces;
  if (definition.ignore_merges) {
    const std::vector<bool> is_added = which_are_added(definition);
    for (std::size_t id = 0; id < definition.tokens.size(); ++id) {
      if (!is_added[id]) {
        pieces.emplace(definition.tokens[id], static_cast<std::int32_t>(id));
      }
    }
  }
  return pieces;
}

std::vector<AddedToken> added_before_normalizer(const TokenizerDefinition& definition) {
  std::vector<AddedToken> tokens;
  for (const AddedToken& added : definition.added_tokens) {
    if (!added.is_normalized) {
      tokens.push_back(added);
    }
  }
  return tokens;
}

// With their texts as the normalizer makes them; of equal ones the first.
std::vector<AddedToken> added_after_normalizer(const TokenizerDefinition& definition,
                                               const Normalizer& normalizer) {
  std::vector<AddedToken> tokens;
  std::unordered_set<std::string> texts;
  for (AddedToken added : definition.added_tokens) {
    if (added.is_normalized) {
      added.text = normalizer.normalize(added.text);
      if (texts.insert(added.text).second) {
        tokens.push_back(added);
      }
    }
  }
  return tokens;
}

}  // namespace

Tokenizer::Tokenizer(std::string content, const std::string& origin, const SpecialTokenNames& names)
    : json_(std::move(content)),
      hash_(hexadecimal(checksum(json_))),
      definition_(parse_tokenizer_json(json_, origin)),
      pretokenizer_(definition_.pretokenizer),
      model_(definition_.merges, byte_tokens_of(definition_), whole_pieces_of(definition_)),
      normalizer_(definition_.normalizer),
      added_tokens_(added_before_normalizer(definition_)),
      normalized_added_tokens_(added_after_normalizer(definition_, normalizer_)),
      is_special_(definition_.tokens.size(), false) {
  for (const AddedToken& added : definition_.added_tokens) {
    added_token_ids_.emplace(added.text, added.id);
    is_special_[static_cast<std::size_t>(added.id)] = added.is_special;
  }
  const auto id_of = [this](const std::vector<std::string>& texts) {
    const auto found = std::ranges::find_if(
        texts, [this](const auto& text) { return token_id(text).has_value(); });
    return found == texts.end() ? -1 : *token_id(*found);
  };
  special_tokens_ = {.bos = id_of(names.bos),
                     .eos = id_of(names.eos),
                     .pad = id_of(names.pad),
                     .fim_begin = id_of(names.fim_begin),
                     .fim_hole = id_of(names.fim_hole),
                     .fim_end = id_of(names.fim_end)};
}

Tokenizer Tokenizer::load(const std::filesystem::path& path, const SpecialTokenNames& names) {
  return Tokenizer(read_file(path), path.string(), names);
}

void Tokenizer::save(const std::filesystem::path& path) const {
  write_file_atomically(path, json_);
}

template <class Visit>
void Tokenizer::for_each_part(std::string_view text, const Visit& visit) const {
  for (const AddedTokenFinder::Section& section : added_tokens_.sections(text)) {
    if (section.token >= 0) {
      visit(section);
      continue;
    }
    const std::string normalized =
        normalizer_.empty() ? std::string() : normalizer_.normalize(section.text);
    for (const AddedTokenFinder::Section& part : normalized_added_tokens_.sections(
             normalizer_.empty() ? section.text : std::string_view(normalized))) {
      visit(part);
    }
  }
}

std::vector<Tokenizer::TextOrToken> Tokenizer::parse(std::string_view text) const {
  std::vector<TextOrToken> parts;
  for_each_part(text, [&parts](const AddedTokenFinder::Section& part) {
    parts.push_back({part.token < 0 ? std::string(part.text) : std::string(), part.token});
  });
  return parts;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, AddedTokens added_tokens) const {
  std::vector<std::int32_t> tokens;
  Encoder(*this, text.size()).encode(text, added_tokens, tokens);
  return tokens;
}

std::vector<std::int32_t> Tokenizer::encode(std::span<const TextOrToken> parts) const {
  std::vector<std::int32_t> tokens;
  std::string text;
  const auto finish_text = [&] {
    if (!text.empty()) {
      Encoder(*this, text.size()).encode(std::exchange(text, {}), AddedTokens::kAsText, tokens);
    }
  };
  for (const TextOrToken& part : parts) {
    if (part.token < 0) {
      text += part.text;
    } else {
      finish_text();
      tokens.push_back(part.token);
    }
  }
  finish_text();
  return tokens;
}

std::string Tokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (const std::int32_t token : tokens) {
    if (token < 0 || token >= vocab_size()) {
      throw ConfigError(concat("cannot decode token id ", token,
                               ": the tokenizer has ids from 0 to ", vocab_size() - 1));
    }
    text += definition_.tokens[static_cast<std::size_t>(token)];
  }
  return text;
}

std::optional<std::int32_t> Tokenizer::token_id(std::string_view added_token) const {
  const auto found = added_token_ids_.find(added_token);
  return found == added_token_ids_.end() ? std::nullopt : std::optional(found->second);
}

bool Tokenizer::changes_text() const noexcept {
  const auto changes = [](const SplitStep& split) { return split.keeps != SplitStep::Keeps::kAll; };
  const auto takes_space = [](const AddedToken& added) {
    return added.takes_left_space || added.takes_right_space;
  };
  const PretokenizerDefinition& steps = definition_.pretokenizer;
  return !normalizer_.empty() || steps.adds_prefix_space ||
         std::any_of(steps.splits.begin(), steps.splits.end(), changes) ||
         std::any_of(definition_.added_tokens.begin(), definition_.added_tokens.end(), takes_space);
}

std::vector<std::int32_t> Tokenizer::text_bytes_per_token() const {
  std::vector<std::int32_t> bytes;
  bytes.reserve(definition_.tokens.size());
  for (std::size_t id = 0; id < definition_.tokens.size(); ++id) {
    bytes.push_back(is_special_[id] ? 0 : static_cast<std::int32_t>(definition_.tokens[id].size()));
  }
  return bytes;
}

Encoder::Encoder(const Tokenizer& tokenizer, std::size_t expected_bytes) : tokenizer_(&tokenizer) {
  // 3 MiB of slots at most: what the second-level cache of a core holds or nearly so.
  constexpr std::size_t kMaxSlots = std::size_t{1} << 16;
  cache_.resize(std::bit_ceil(std::clamp<std::size_t>(expected_bytes / 8, 16, kMaxSlots)));
}

void Encoder::encode(std::string_view text, AddedTokens added_tokens,
                     std::vector<std::int32_t>& out) {
  if (added_tokens == AddedTokens::kAsText) {
    if (tokenizer_->normalizer_.empty()) {
      encode_text(text, out);
    } else {
      encode_text(tokenizer_->normalizer_.normalize(text), out);
    }
    return;
  }
  tokenizer_->for_each_part(text, [&](const AddedTokenFinder::Section& part) {
    if (part.token < 0) {
      encode_text(part.text, out);
    } else {
      out.push_back(part.token);
    }
  });
}

void Encoder::encode_text(std::string_view text, std::vector<std::int32_t>& out) {
  tokenizer_->pretokenizer_.for_each_piece(text,
                                           [&](std::string_view word) { encode_word(word, out); });
}

void Encoder::encode_word(std::string_view word, std::vector<std::int32_t>& out) {
  const BpeModel& model = tokenizer_->model_;
  if (word.size() == 1 || word.size() > kMaxCachedBytes) {
    model.encode_piece(word, scratch_, out);
    return;
  }
  std::array<char, 16> padded{};
  std::memcpy(padded.data(), word.data(), word.size());
  padded[15] = static_cast<char>(word.size());
  const auto key = std::bit_cast<std::array<std::uint64_t, 2>>(padded);
  std::uint64_t mixed = (key[0] ^ std::rotl(key[1], 29)) * 0x9e3779b97f4a7c15ULL;
  mixed ^= mixed >> 32;
  CachedWord& cached = cache_[mixed & (cache_.size() - 1)];
  if (cached.word == key && cached.num_tokens > 0) {
    out.insert(out.end(), cached.tokens.begin(), cached.tokens.begin() + cached.num_tokens);
    return;
  }
  const std::size_t old_size = out.size();
  model.encode_piece(word, scratch_, out);
  const std::size_t num_tokens = out.size() - old_size;
  if (num_tokens <= kMaxCachedTokens) {
    cached.word = key;
    cached.num_tokens = static_cast<std::int32_t>(num_tokens);
    std::copy(out.begin() + static_cast<std::ptrdiff_t>(old_size), out.end(),
              cached.tokens.begin());
  }
}

}  // namespace fathom::data
