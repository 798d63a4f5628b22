#include "data/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "data/byte_characters.h"
#include "data/json.h"
#include "data/json_reader.h"
#include "data/pretokenizer_json.h"

namespace fathom::data {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::int64_t kMaxVocabSize = std::int64_t{4} << 20;
constexpr std::size_t kMaxAddedTokenBytes = 1024;

constexpr std::array<std::pair<std::string_view, NormalizationForm>, 4> kForms = {
    {{"NFC", NormalizationForm::kNfc},
     {"NFD", NormalizationForm::kNfd},
     {"NFKC", NormalizationForm::kNfkc},
     {"NFKD", NormalizationForm::kNfkd}}};

// Reads one file into a definition; each step leaves what the next one needs.
class TokenizerJsonReader : JsonReader {
 public:
  TokenizerJsonReader(std::string_view content, const std::string& origin)
      : JsonReader(origin), origin_(origin), root_(parse_json(content, origin)) {}

  TokenizerDefinition read() {
    want(root_.is_object(), "want a JSON object");
    read_normalizer();
    definition_.pretokenizer = parse_pretokenizer(member(root_, "pre_tokenizer"), origin_);
    want(type_of(member(root_, "decoder")) == "ByteLevel", "decoder must be ByteLevel");
    read_model_options();
    read_ids();
    read_merges();
    return std::move(definition_);
  }

 private:
  void read_normalizer() {
    const json& normalizer = member(root_, "normalizer");
    if (normalizer.is_null()) {
      return;
    }
    for (const json& step : sequence(normalizer, "normalizers")) {
      const std::string type = type_of(step);
      const auto* form = std::find_if(kForms.begin(), kForms.end(),
                                      [&type](const auto& entry) { return entry.first == type; });
      want(form != kForms.end(), "normalizer ", type,
           " is not supported: NFC, NFD, NFKC and NFKD are");
      definition_.normalizer.push_back(form->second);
    }
  }

  void read_model_options() {
    const json& model = member(root_, "model");
    want(model.is_object(), "model must be an object");
    // Before `type` was written, a model with merges was BPE.
    want(!model.contains("type") || type_of(model) == "BPE", "model.type must be BPE");
    definition_.ignore_merges = flag(model, "ignore_merges", false);
    for (const char* name : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
      const json& value = member(model, name);
      want(value.is_null() || value == "" || value == 0.0, "model.", name, " is not supported");
    }
  }

  std::int32_t checked_id(const json& value, std::string_view token) const {
    want(value.is_number_integer() && value.get<std::int64_t>() >= 0 &&
             value.get<std::int64_t>() < kMaxVocabSize,
         "id of token \"", token, "\" must be an integer from 0 to ", kMaxVocabSize - 1, ", not ",
         value.dump());
    return value.get<std::int32_t>();
  }

  void read_ids() {
    read_added_tokens();
    const json& vocab = member(member(root_, "model"), "vocab");
    want(vocab.is_object() && !vocab.empty(), "model.vocab must be an object that is not empty");
    std::unordered_map<std::int32_t, std::string> token_of_id;
    for (const AddedToken& added : definition_.added_tokens) {
      token_of_id.emplace(added.id, added.text);
    }
    for (const auto& [characters, value] : vocab.items()) {
      const std::int32_t id = checked_id(value, characters);
      const auto added = token_of_id.find(id);
      if (added != token_of_id.end() && added->second == characters) {
        continue;  // an added token that is also listed here: no byte and no merge may become it
      }
      id_of_characters_.emplace(characters, id);
      const std::optional<std::string> bytes = byte_characters_.bytes_of(characters);
      want(bytes.has_value() && !bytes->empty(), "token \"", characters, "\" (id ", id,
           ") is not written in byte-level characters");
      want(token_of_id.emplace(id, *bytes).second, "two tokens have the id ", id);
    }
    definition_.tokens.resize(token_of_id.size());
    for (auto& [id, token] : token_of_id) {
      // The package would give other ids to the added tokens of such a file.
      want(static_cast<std::size_t>(id) < token_of_id.size(),
           "ids have holes: ", token_of_id.size(), " tokens, but \"", token, "\" has the id ", id);
      definition_.tokens[static_cast<std::size_t>(id)] = std::move(token);
    }
  }

  void read_added_tokens() {
    const json& list = member(root_, "added_tokens");
    want(list.is_null() || list.is_array(), "added_tokens must be a list");
    std::unordered_map<std::string, std::int32_t> seen;
    std::unordered_map<std::int32_t, std::string> seen_ids;
    for (const json& entry : list) {
      const json& content = entry.is_object() ? member(entry, "content") : entry;
      want(entry.is_object() && content.is_string() && content != "",
           "an entry of added_tokens has no content");
      const auto& text = content.get_ref<const std::string&>();
      want(text.size() <= kMaxAddedTokenBytes, "an added token has ", text.size(),
           " bytes, at most ", kMaxAddedTokenBytes, " are allowed");
      const std::int32_t id = checked_id(member(entry, "id"), text);
      want(seen.emplace(text, id).second, "added token \"", text, "\" twice");
      want(seen_ids.emplace(id, text).second, "two added tokens have the id ", id);
      const bool is_special = flag(entry, "special", false);
      definition_.added_tokens.push_back({.text = text,
                                          .id = id,
                                          .is_special = is_special,
                                          .single_word = flag(entry, "single_word", false),
                                          .takes_left_space = flag(entry, "lstrip", false),
                                          .takes_right_space = flag(entry, "rstrip", false),
                                          .is_normalized = flag(entry, "normalized", !is_special)});
    }
    std::sort(definition_.added_tokens.begin(), definition_.added_tokens.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  }

  // Of a token that merge `rank` "joins" or "makes".
  std::int32_t id_in_merge(std::size_t rank, const char* role,
                           const std::string& characters) const {
    const auto found = id_of_characters_.find(characters);
    if (found == id_of_characters_.end()) {
      const bool is_added =
          std::any_of(definition_.added_tokens.begin(), definition_.added_tokens.end(),
                      [&characters](const AddedToken& added) { return added.text == characters; });
      want(
          !is_added, "merge ", rank, ' ', role, " \"", characters,
          "\", an added token, which no text may become: take it out of added_tokens, or the merge "
          "out of model.merges");
      want(false, "merge ", rank, ' ', role, " \"", characters,
           "\", which is not in model.vocab: give it an id there, or take the merge out of "
           "model.merges");
    }
    return found->second;
  }

  void read_merges() {
    for (int byte = 0; byte < 256; ++byte) {
      const std::string characters =
          byte_characters_.text_of(std::string(1, static_cast<char>(byte)));
      want(id_of_characters_.contains(characters), "model.vocab has no token for byte ", byte,
           ", or an added one, which no text becomes");
    }
    const json& merges = member(member(root_, "model"), "merges");
    want(merges.is_array(), "model.merges must be a list");
    PairTable<char> seen(merges.size());
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const auto [left_text, right_text] = parts_of(merges[rank], rank);
      const std::int32_t left = id_in_merge(rank, "joins", left_text);
      const std::int32_t right = id_in_merge(rank, "joins", right_text);
      want(std::exchange(seen[pair_key(left, right)], 1) == 0, "merge ", rank, " (\"", left_text,
           "\", \"", right_text, "\") is listed twice");
      definition_.merges.push_back(
          {left, right, id_in_merge(rank, "makes", left_text + right_text)});
    }
  }

  // "left right", or ["left", "right"] as newer files have it.
  std::pair<std::string, std::string> parts_of(const json& merge, std::size_t rank) const {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    }
    want(merge.is_string(), "merge ", rank, " must be two tokens");
    const auto& text = merge.get_ref<const std::string&>();
    const std::size_t space = text.find(' ');
    want(space != std::string::npos && space == text.rfind(' '), "merge ", rank, " (\"", text,
         "\") must be two tokens with one space between");
    return {text.substr(0, space), text.substr(space + 1)};
  }

  const std::string& origin_;
  const json root_;
  ByteCharacters byte_characters_;
  TokenizerDefinition definition_;
  // Of model.vocab, without the added tokens that are listed there.
  std::unordered_map<std::string, std::int32_t> id_of_characters_;
};

ordered_json normalizer_json(const std::vector<NormalizationForm>& forms) {
  ordered_json steps = ordered_json::array();
  for (const NormalizationForm form : forms) {
    const auto* entry = std::find_if(kForms.begin(), kForms.end(),
                                     [form](const auto& known) { return known.second == form; });
    steps.push_back({{"type", entry->first}});
  }
  if (steps.size() == 1) {
    return steps[0];
  }
  return steps.empty() ? ordered_json()
                       : ordered_json{{"type", "Sequence"}, {"normalizers", std::move(steps)}};
}

ordered_json added_tokens_json(const std::vector<AddedToken>& added_tokens) {
  ordered_json list = ordered_json::array();
  for (const AddedToken& added : added_tokens) {
    list.push_back({{"id", added.id},
                    {"content", added.text},
                    {"single_word", added.single_word},
                    {"lstrip", added.takes_left_space},
                    {"rstrip", added.takes_right_space},
                    {"normalized", added.is_normalized},
                    {"special", added.is_special}});
  }
  return list;
}

ordered_json model_json(const TokenizerDefinition& definition) {
  const ByteCharacters byte_characters;
  const std::vector<bool> is_added = which_are_added(definition);
  std::vector<std::string> characters;
  ordered_json vocab = ordered_json::object();
  // The object is a list of pairs; its own operator[] would search the whole list for each key.
  auto& entries = vocab.get_ref<ordered_json::object_t&>();
  for (std::size_t id = 0; id < definition.tokens.size(); ++id) {
    characters.push_back(byte_characters.text_of(definition.tokens[id]));
    if (!is_added[id]) {
      entries.emplace_back(characters[id], id);
    }
  }
  ordered_json merges = ordered_json::array();
  for (const BpeMerge& merge : definition.merges) {
    merges.push_back(characters[static_cast<std::size_t>(merge.left)] + " " +
                     characters[static_cast<std::size_t>(merge.right)]);
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", definition.ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

}  // namespace

TokenizerDefinition parse_tokenizer_json(std::string_view content, const std::string& origin) {
  return TokenizerJsonReader(content, origin).read();
}

std::vector<bool> which_are_added(const TokenizerDefinition& definition) {
  std::vector<bool> is_added(definition.tokens.size(), false);
  for (const AddedToken& added : definition.added_tokens) {
    is_added[static_cast<std::size_t>(added.id)] = true;
  }
  return is_added;
}

std::string write_tokenizer_json(const TokenizerDefinition& definition) {
  const ordered_json root = {{"version", "1.0"},
                             {"truncation", nullptr},
                             {"padding", nullptr},
                             {"added_tokens", added_tokens_json(definition.added_tokens)},
                             {"normalizer", normalizer_json(definition.normalizer)},
                             {"pre_tokenizer", pretokenizer_json(definition.pretokenizer)},
                             {"post_processor", nullptr},
                             {"decoder",
                              {{"type", "ByteLevel"},
                               {"add_prefix_space", true},
                               {"trim_offsets", true},
                               {"use_regex", true}}},
                             {"model", model_json(definition)}};
  return root.dump(2) + "\n";
}

}  // namespace fathom::data
