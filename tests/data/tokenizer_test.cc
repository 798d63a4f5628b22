#include "data/tokenizer.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "data/bpe_trainer.h"
#include "tests/data/byte_tokenizer.h"
#include "tests/support/catch.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_folder.h"

namespace fathom::data {
namespace {

const std::string kFixtures = test::source_path("tests/fixtures/tokenizer/");

Tokenizer fixture(const std::string& name) { return Tokenizer::load(kFixtures + name + ".json"); }

TEST_CASE("Tokenizer encodes hard texts as the tokenizers package does") {
  const auto name = GENERATE(as<std::string>{}, "llama3", "gpt2");
  const Tokenizer tokenizer = fixture(name);
  Encoder encoder(tokenizer);  // one for all texts: what it remembers must not change anything
  std::ifstream lines(kFixtures + "texts.jsonl");
  int num_texts = 0;
  for (std::string line; std::getline(lines, line); ++num_texts) {
    const nlohmann::json entry = nlohmann::json::parse(line);
    const auto text = entry["text"].get<std::string>();
    const auto want = entry[name].get<std::vector<std::int32_t>>();
    INFO(line);
    CHECK(tokenizer.encode(text) == want);
    CHECK(tokenizer.decode(want) == text);
    std::vector<std::int32_t> found;
    encoder.encode(text, AddedTokens::kParse, found);
    CHECK(found == want);
  }
  CHECK(num_texts > 50);
}

TEST_CASE("Tokenizers built like the published files encode as the tokenizers package does") {
  const std::string name = GENERATE("llama3", "qwen2", "deepseek-v2", "deepseek-v3", "odd");
  const Tokenizer tokenizer = fixture("shapes/" + name);
  Encoder encoder(tokenizer);
  std::ifstream lines(kFixtures + "shapes/texts.jsonl");
  int num_texts = 0;
  int num_unchanged = 0;
  for (std::string line; std::getline(lines, line); ++num_texts) {
    const nlohmann::json entry = nlohmann::json::parse(line);
    const auto text = entry["text"].get<std::string>();
    const auto want = entry["ids"][name].get<std::vector<std::int32_t>>();
    INFO(name << ": " << line);
    std::vector<std::int32_t> found;
    encoder.encode(text, AddedTokens::kParse, found);
    CHECK(found == want);
    num_unchanged += tokenizer.decode(want) == text ? 1 : 0;
    CHECK((tokenizer.changes_text() || tokenizer.decode(want) == text));
    CHECK((tokenizer.changes_text() ||
           tokenizer.decode(tokenizer.encode(text, AddedTokens::kAsText)) == text));
  }
  CHECK(num_texts > 100);
  CHECK(tokenizer.changes_text() == (num_unchanged < num_texts));
  CHECK(tokenizer.changes_text() == (name == "qwen2" || name == "odd"));
}

TEST_CASE("Tokenizer gives back any bytes, valid UTF-8 or not") {
  const Tokenizer tokenizer = fixture("llama3");
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    text.push_back(static_cast<char>(i * i % 251 + i / 7 % 5));
  }
  for (int byte = 0; byte < 256; ++byte) {
    text.push_back(static_cast<char>(byte));
  }
  // Surrogate, overlong, too high, cut off.
  text += "\xed\xa0\x80 \xc0\x80 \xf5\x80\x80\x80 \xe2\x82";
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("Texts of special tokens are tokens in prompts and text in data") {
  const Tokenizer tokenizer = fixture("llama3");
  const std::string text = "a<|end_of_sentence|>b";
  const std::vector<std::int32_t> parsed = tokenizer.encode(text, AddedTokens::kParse);
  CHECK(parsed.size() == 3);
  CHECK(parsed[1] == tokenizer.special_tokens().eos);
  const std::vector<std::int32_t> plain = tokenizer.encode(text, AddedTokens::kAsText);
  for (const std::int32_t token : plain) {
    CHECK_FALSE(tokenizer.is_special(token));
  }
  CHECK(tokenizer.decode(plain) == text);
}

TEST_CASE("Tokenizer tells the ids of special tokens and the bytes of all") {
  const Tokenizer tokenizer = fixture("llama3");
  CHECK(tokenizer.vocab_size() == 480);
  CHECK(tokenizer.special_tokens() == SpecialTokenIds{474, 475, 476, 477, 478, 479});
  CHECK(tokenizer.token_id("<|fim_hole|>") == 478);
  CHECK_FALSE(tokenizer.token_id("<|fim").has_value());
  CHECK_FALSE(tokenizer.token_id("").has_value());
  const std::vector<std::int32_t> bytes = tokenizer.text_bytes_per_token();
  CHECK(bytes.size() == 480);
  CHECK(bytes[475] == 0);
  const std::string text = "Größe of the tokens 漢字";
  std::int64_t sum = 0;
  for (const std::int32_t token : tokenizer.encode(text)) {
    sum += bytes[static_cast<std::size_t>(token)];
  }
  CHECK(sum == static_cast<std::int64_t>(text.size()));
  CHECK_THROWS_AS(tokenizer.decode(std::vector<std::int32_t>{480}), ConfigError);
  CHECK_THROWS_AS(tokenizer.decode(std::vector<std::int32_t>{-1}), ConfigError);
}

TEST_CASE("Beginning and end of a sentence are found under the names of published models") {
  const auto ids_of = [](const std::vector<std::string>& added) {
    return test::byte_tokenizer(added).special_tokens();  // of them the first is token 256
  };
  const SpecialTokenIds llama = ids_of({"<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"});
  CHECK(llama == SpecialTokenIds{.bos = 256, .eos = 257});
  CHECK(ids_of({"<|endoftext|>", "<|im_start|>"}) == SpecialTokenIds{.eos = 256});
  CHECK(ids_of({"<|endoftext|>", "<｜end▁of▁sentence｜>"}).eos == 257);
  CHECK(ids_of({"<|end_of_text|>", "<｜end▁of▁sentence｜>", "<|end_of_sentence|>"}).eos == 258);
  CHECK(ids_of({"<|endoftext|>", "<|end_of_text|>"}).eos == 257);
  CHECK(ids_of({"</s>"}) == SpecialTokenIds{});
}

TEST_CASE("A saved tokenizer is the same file with the same hash") {
  const test::TemporaryFolder folder;
  const Tokenizer tokenizer = fixture("llama3");
  tokenizer.save(folder.path() / "tokenizer.json");
  const Tokenizer again = Tokenizer::load(folder.path() / "tokenizer.json");
  CHECK(read_file(folder.path() / "tokenizer.json") == read_file(kFixtures + "llama3.json"));
  CHECK(again.hash() == tokenizer.hash());
  CHECK(again.hash() != fixture("gpt2").hash());
  CHECK(again.hash().size() == 16);
}

TEST_CASE("A megabyte in one word neither stalls nor crashes") {
  const std::string name =
      GENERATE("gpt2", "shapes/llama3", "shapes/qwen2", "shapes/deepseek-v2", "shapes/deepseek-v3");
  const Tokenizer tokenizer = fixture(name);
  constexpr std::size_t kSize = 1'000'000;
  std::vector<std::string> texts;
  for (const char letter : {'a', ' ', '^', '\n', '1', '\'', '<'}) {
    texts.emplace_back(kSize, letter);
  }
  std::string mixed;
  for (std::size_t i = 0; i < kSize; ++i) {
    mixed += "the"[i * i % 3];
  }
  texts.push_back(mixed);
  // Marks in no order that the normalization form has; joiners; the beginnings of added tokens.
  const auto repeated = [](const std::string& part, std::size_t size) {
    std::string text;
    while (text.size() < size) {
      text += part;
    }
    return text;
  };
  texts.push_back(repeated("\u0300", kSize));
  texts.push_back(repeated("\u200d", kSize));
  texts.push_back(repeated("<｜place▁holder▁no▁", kSize));
  texts.push_back(repeated("\u0300", kSize / 2) + repeated("\u0323", kSize / 2));
  for (const std::string& text : texts) {
    const std::string decoded = tokenizer.decode(tokenizer.encode(text));
    CHECK((tokenizer.changes_text() || decoded == text));
    CHECK(decoded.size() == text.size());
  }
}

TEST_CASE("Among equal merges the leftmost comes first, in short words and long ones") {
  WordCounts words;
  words.add("aaaa");
  const Tokenizer tokenizer = train_bpe(words, {.vocab_size = 257, .special_tokens = {}});
  const std::int32_t a = tokenizer.encode("a")[0];
  for (const std::size_t num_pairs : {3, 63, 64, 500}) {
    std::vector<std::int32_t> want(num_pairs, 256);
    want.push_back(a);
    CHECK(tokenizer.encode(std::string(2 * num_pairs + 1, 'a')) == want);
  }
}

TEST_CASE("Long words merge by the same rule as short ones") {
  const Tokenizer tokenizer = fixture("gpt2");
  std::string word;
  while (word.size() < 400) {
    word += "theandwasof";
  }
  const std::vector<std::int32_t> whole = tokenizer.encode(word);
  // The rule in plain loops: the lowest rank, the leftmost first.
  const nlohmann::json model = nlohmann::json::parse(read_file(kFixtures + "gpt2.json"))["model"];
  std::vector<std::string> symbols;
  for (const char letter : word) {
    symbols.emplace_back(1, letter);
  }
  for (bool merged = true; merged;) {
    merged = false;
    std::size_t best_rank = model["merges"].size();
    std::size_t best_place = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (std::size_t rank = 0; rank < best_rank; ++rank) {
        if (model["merges"][rank][0] == symbols[i] && model["merges"][rank][1] == symbols[i + 1]) {
          best_rank = rank;
          best_place = i;
        }
      }
    }
    if (best_rank < model["merges"].size()) {
      symbols[best_place] += symbols[best_place + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best_place) + 1);
      merged = true;
    }
  }
  std::vector<std::int32_t> want;
  for (const std::string& symbol : symbols) {
    want.push_back(model["vocab"][symbol].get<std::int32_t>());
  }
  CHECK(whole == want);
}

}  // namespace
}  // namespace fathom::data
