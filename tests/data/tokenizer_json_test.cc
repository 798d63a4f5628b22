#include "data/tokenizer_json.h"

#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"

namespace fathom::data {
namespace {

using nlohmann::json;

json fixture() {
  return json::parse(read_file(test::source_path("tests/fixtures/tokenizer/llama3.json")));
}

// The message with which the file is refused; "" if it is not.
std::string refusal(const json& root) {
  try {
    parse_tokenizer_json(root.dump(), "t.json");
  } catch (const ConfigError& error) {
    return error.message();
  }
  return "";
}

TEST_CASE("A written tokenizer.json reads back as the same definition") {
  const TokenizerDefinition read = parse_tokenizer_json(fixture().dump(), "t.json");
  const std::string written = write_tokenizer_json(read);
  const TokenizerDefinition again = parse_tokenizer_json(written, "t.json");
  CHECK(again.tokens == read.tokens);
  CHECK(again.pretokenizer == read.pretokenizer);
  CHECK(again.merges.size() == read.merges.size());
  CHECK(write_tokenizer_json(again) == written);
  CHECK(Tokenizer(written).encode("the water's 漢字 <|pad|>") ==
        Tokenizer(fixture().dump()).encode("the water's 漢字 <|pad|>"));
}

TEST_CASE("Everything that a tokenizer may be is written") {
  const std::string file = test::source_path("tests/fixtures/tokenizer/shapes/odd.json");
  const TokenizerDefinition read = parse_tokenizer_json(read_file(file), file);
  TokenizerDefinition changed = read;
  changed.ignore_merges = true;
  const TokenizerDefinition again = parse_tokenizer_json(write_tokenizer_json(changed), "t.json");
  CHECK(again.normalizer == read.normalizer);
  CHECK(again.normalizer.size() == 2);
  CHECK(again.pretokenizer == read.pretokenizer);
  CHECK(again.pretokenizer.adds_prefix_space);
  CHECK(again.tokens == read.tokens);
  CHECK(again.ignore_merges);
  CHECK(again.added_tokens == read.added_tokens);
}

TEST_CASE("What never applies where every byte has a token may be asked for") {
  json root = fixture();
  root["model"]["byte_fallback"] = true;
  root["model"]["fuse_unk"] = true;
  root["model"]["unk_token"] = "<|pad|>";
  CHECK(refusal(root).empty());
}

TEST_CASE("An unknown expression is refused only if it is not valid") {
  json root = fixture();
  json& regex = root["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
  regex = "(?:the|of)+| ?[a-z]+";
  CHECK(refusal(root).empty());
  const std::string text = "thethe water 12";
  const Tokenizer tokenizer(root.dump());
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  regex = "(a";
  CHECK_THROWS_AS(Tokenizer(root.dump()), ConfigError);
}

TEST_CASE("Merges may be written as pairs or as one string") {
  json root = fixture();
  for (json& merge : root["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  CHECK(Tokenizer(root.dump()).encode("the water") ==
        Tokenizer(fixture().dump()).encode("the water"));
}

TEST_CASE("An added token may stand in the vocabulary too, under any id") {
  json root = fixture();
  // As in DeepSeek-V3's file: a special token within the vocabulary, under a name that is not
  // byte-level.
  const std::string name = "<｜end▁of▁sentence｜>";
  root["model"]["vocab"][name] = 480;
  root["added_tokens"].push_back({{"id", 480}, {"content", name}, {"special", true}});
  const Tokenizer tokenizer(root.dump());
  CHECK(tokenizer.vocab_size() == 481);
  CHECK(tokenizer.token_id(name) == 480);
  SpecialTokenNames names;
  names.eos = {"not there", name};
  CHECK(Tokenizer(root.dump(), "t.json", names).special_tokens().eos == 480);
}

TEST_CASE("An added token is neither a byte's token nor in a merge: text would become it") {
  const auto refusal_of_added = [](const std::string& content) {
    json root = fixture();
    root["added_tokens"].push_back({{"id", root["model"]["vocab"][content]}, {"content", content}});
    return refusal(root);
  };
  CHECK_THAT(refusal_of_added("a"), Catch::Contains("no token for byte 97, or an added one"));
  const json merge = fixture()["model"]["merges"][0];
  const std::string made = merge[0].get<std::string>() + merge[1].get<std::string>();
  CHECK_THAT(refusal_of_added(made),
             Catch::Contains("merge 0 makes \"" + made + "\", an added token"));
  // The merge that makes the token is gone, one that joins it is not.
  json parts = fixture();
  parts["model"]["merges"] = json::array({json::array({made, "a"})});
  parts["added_tokens"].push_back({{"id", parts["model"]["vocab"][made]}, {"content", made}});
  CHECK_THAT(refusal(parts), Catch::Contains("merge 0 joins \"" + made + "\", an added token"));
}

TEST_CASE("A tokenizer.json that is not supported or contradicts itself is refused by name") {
  CHECK(refusal(fixture()).empty());
  const auto refuse = [](const std::string& path, const json& value, const std::string& want) {
    json root = fixture();
    root[json::json_pointer(path)] = value;
    const std::string message = refusal(root);
    INFO(path << ": " << message);
    CHECK(message.find("t.json: ") == 0);
    CHECK(message.find(want) != std::string::npos);
  };
  refuse("/normalizer", {{"type", "Lowercase"}}, "normalizer Lowercase");
  refuse("/normalizer",
         {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Strip"}}}}},
         "normalizer Strip");
  refuse("/normalizer", {{"type", "Sequence"}, {"normalizers", "NFC"}},
         "normalizers must be a list");
  refuse("/decoder", nullptr, "decoder");
  refuse("/model/type", "WordPiece", "BPE");
  refuse("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  refuse("/model/ignore_merges", "yes", "ignore_merges");
  refuse("/model/dropout", 0.1, "dropout");
  refuse("/model/vocab", json::array(), "vocab");
  refuse("/model/vocab/a", 1000, "hole");
  refuse("/model/vocab/a", 65, "two tokens have the id 65");
  refuse("/model/vocab/a", -1, "id of token \"a\"");
  refuse("/model/vocab/a", 1.5, "id of token \"a\"");
  refuse("/model/vocab/a", 18446744073709551615U, "id of token \"a\"");
  refuse("/model/vocab/漢", 480, "byte-level");
  refuse("/model/merges/0", "a", "two tokens");
  refuse("/model/merges/0", "a  b", "two tokens");
  refuse("/model/merges/0", "zq zq", "merge 0 joins \"zq\", which is not in model.vocab");
  refuse("/model/merges/0", "z q", "merge 0 makes \"zq\", which is not in model.vocab");
  refuse("/model/merges/1", fixture()["model"]["merges"][0], "twice");
  refuse("/model/merges", "a b", "merges");
  refuse("/pre_tokenizer/pretokenizers/0/pattern", {{"String", " "}}, "Regex");
  refuse("/pre_tokenizer/pretokenizers/0/behavior", "MergedWithNext", "MergedWithNext");
  refuse("/pre_tokenizer/pretokenizers/0/type", "Metaspace", "Metaspace");
  refuse("/pre_tokenizer/pretokenizers/1/add_prefix_space", 1, "add_prefix_space");
  refuse("/pre_tokenizer", nullptr, "ByteLevel");
  refuse("/added_tokens/0/lstrip", "true", "lstrip");
  refuse("/added_tokens/0/content", std::string(1025, 'x'), "1025 bytes");
  refuse("/added_tokens/0/id", 475, "475");
  refuse("/added_tokens/0/content", "<|pad|>", "twice");
  refuse("/added_tokens/0/content", 5, "content");
  CHECK_THROWS_AS(parse_tokenizer_json("[]", "t.json"), ConfigError);
  CHECK_THROWS_AS(parse_tokenizer_json("{}", "t.json"), ConfigError);
  CHECK_THROWS_AS(parse_tokenizer_json("", "t.json"), ConfigError);
  CHECK_THROWS_AS(Tokenizer::load("/nowhere/t.json"), IoError);
}

TEST_CASE("A missing byte is refused: such a tokenizer cannot encode all text") {
  json root = fixture();
  root["model"]["vocab"].erase("a");
  root["model"]["vocab"]["aaaaaa"] = 64;
  CHECK_FALSE(refusal(root).empty());
}

}  // namespace
}  // namespace fathom::data
